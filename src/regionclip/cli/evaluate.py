"""``regionclip evaluate``: how well a model detects."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from regionclip.cli.console import console, print_table, progress
from regionclip.cli.devices import checked_device

if TYPE_CHECKING:
    from regionclip.evaluation import IconsReport


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model on new icon scenes: mean AP50 over all, base and novel classes.

    For example:

        regionclip evaluate icons --num-scenes 200

        regionclip evaluate runs/icons/model.safetensors --domain night_rain --output report.json
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")] = "icons"
    """Name or file of a model."""
    num_scenes: int = 200
    """Scenes to draw and detect in."""
    seed: int = 1_000_000
    """Of the scenes; whatever it is, none of them was drawn for training."""
    domain: Literal["day", "night", "dusk_rain", "night_rain", "fog"] = "day"
    """Light and weather."""
    output: Path | None = None
    """JSON file for the figures of each class."""
    per_class: bool = False
    """Also print one row per class."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""

    def run(self) -> int:
        """Draw, detect, compare, print."""
        import regionclip
        from regionclip.evaluation import evaluate_icons

        detector = regionclip.load(self.model, device=checked_device(self.device))
        with progress("Detecting", self.num_scenes) as advance:
            report = evaluate_icons(
                detector,
                num_scenes=self.num_scenes,
                seed=self.seed,
                domain=self.domain,
                progress=advance,
            )
        print_report(report, title=self.model, per_class=self.per_class)
        if self.output is not None:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            content = {"model": self.model, **report.to_dict()}
            self.output.write_text(json.dumps(content, indent=2) + "\n")
        return 0


def print_report(report: "IconsReport", *, title: str, per_class: bool) -> None:
    """Print the table of splits, perhaps that of classes, and how it was measured.

    Args:
        report: What was found out.
        title: Of the table.
        per_class: Whether to print every class.
    """
    rows = []
    for split in ("all", *report.detection.splits):
        of_split = report.detection.of_split(None if split == "all" else split)
        mean_ap = report.detection.mean_ap(None if split == "all" else split)
        cells = (len(of_split), report.num_boxes[split])
        rows.append((split, *map(str, cells), _percent(mean_ap), _percent(report.naming[split])))
    print_table(title, ("classes", "number", "boxes", "AP50", "true boxes named right"), rows)
    if per_class:
        by_ap = sorted(report.detection.of_split(), key=lambda each: -(each.ap or 0.0))
        print_table(
            "AP50 by class",
            ("class", "split", "boxes", "AP50"),
            [(each.name, each.split, str(each.num_boxes), _percent(each.ap)) for each in by_ap],
        )
    console.print(report.protocol)
    console.print(f"A guess among {len(report.detection.classes)} names: {report.chance:.1%}.")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
