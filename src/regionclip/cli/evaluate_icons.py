"""The examination of icon models: new scenes, no data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.cli.console import console, print_table, progress
from regionclip.cli.evaluate_report import REPORT_JSON, REPORT_MARKDOWN
from regionclip.cli.files import replacing

if TYPE_CHECKING:
    from regionclip.data.icons import Domain
    from regionclip.detect import Detector
    from regionclip.evaluation.icons import IconsReport
    from regionclip.evaluation.report import Table


def evaluate_on_icons(
    detector: "Detector", *, num_scenes: int, seed: int, domain: "Domain"
) -> "IconsReport":
    """Draw scenes and detect in them, with a bar.

    Raises:
        ValueError: ``num_scenes`` is not positive.
    """
    from regionclip.evaluation.icons import evaluate_icons

    with progress("Detecting", num_scenes) as advance:
        return evaluate_icons(
            detector, num_scenes=num_scenes, seed=seed, domain=domain, progress=advance
        )


def show_icons(report: "IconsReport", *, title: str, per_class: bool) -> None:
    """Print the table of splits, perhaps that of classes, and how it was measured.

    Args:
        report: What was found out.
        title: Of the table.
        per_class: Whether to print every class.
    """
    tables = _tables(report, title)
    for table in tables if per_class else tables[:1]:
        print_table(table.title, table.columns, table.rows)
    console.print(report.protocol)
    console.print(f"A guess among {len(report.detection.classes)} names: {report.chance:.1%}.")


def write_icons(folder: Path, report: "IconsReport", model: str) -> None:
    """Write ``report.json`` and ``report.md``, whole files or none, and say so."""
    from regionclip.evaluation.report import markdown_table

    content = {"model": model, **report.to_dict()}
    with replacing(folder / REPORT_JSON) as path:
        path.write_text(json.dumps(content, indent=2) + "\n")
    blocks = [f"# {model}", report.protocol, *map(markdown_table, _tables(report, "Icons"))]
    with replacing(folder / REPORT_MARKDOWN) as path:
        path.write_text("\n\n".join(blocks) + "\n")
    console.print(
        f"written: {folder / REPORT_JSON}, {folder / REPORT_MARKDOWN}", markup=False, soft_wrap=True
    )


def _tables(report: "IconsReport", title: str) -> "tuple[Table, Table]":
    """By split, then by class."""
    from regionclip.evaluation.report import Table

    splits = []
    for split in ("all", *report.detection.splits):
        of_split = report.detection.of_split(None if split == "all" else split)
        mean_ap = report.detection.mean_ap(None if split == "all" else split)
        counts = (str(len(of_split)), str(report.num_boxes[split]))
        splits.append((split, *counts, _percent(mean_ap), _percent(report.naming[split])))
    by_ap = sorted(report.detection.of_split(), key=lambda each: -(each.ap or 0.0))
    classes = [(each.name, each.split, str(each.num_boxes), _percent(each.ap)) for each in by_ap]
    columns = ("classes", "number", "boxes", "AP50", "true boxes named right")
    return (
        Table(title, columns, tuple(splits)),
        Table("AP50 by class", ("class", "split", "boxes", "AP50"), tuple(classes)),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
