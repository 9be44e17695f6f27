"""``regionclip data relabel``: annotated boxes called what a model calls them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, downloads, errors, print_table, progress
from regionclip.cli.devices import checked_device
from regionclip.cli.options import optional, value
from regionclip.whole_files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regionclip.data.images import ImageReadError
    from regionclip.detect import Detector
    from regionclip.evaluation.relabelling import Agreement

MOST_CLASSES = 20
"""Rows of the table: the classes that model and people agree on least."""


@dataclass(frozen=True, kw_only=True)
class DataRelabel:
    """Write a COCO json whose boxes have the classes that a model names them by.

    Each box gets the class of the file's own list that it is most alike; crowds, and boxes in
    images that cannot be read, keep theirs. Nothing but classes changes: boxes from people keep
    their places, and so do boxes from a model. The class that an annotation had is kept in it as
    annotated_category_id. How far both agree is printed.

    CORA trains its localiser, which a frozen model tells the names, on such labels.

    For example:

        regionclip data relabel train_base.json --model openai:RN50 --region-prompt
        region_prompt.pth --output train_relabelled.json
    """

    source: Annotated[Positional[Path], value("JSON")]
    """A COCO json with boxes."""
    output: Annotated[Path, value("JSON")]
    """A file that is not there yet."""
    model: Annotated[str, value("NAME|FILE")]
    """What names the boxes: a name that 'regionclip models list' shows, or a checkpoint."""
    region_prompt: Annotated[Path | None, optional("FILE")] = None
    """A region prompt for the model, in the original's form."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images are; by default beside the json."""
    batch_size: Annotated[int, value("N")] = 1
    """Images computed at a time; more is faster on a GPU."""
    workers: Annotated[int, value("N")] = 4
    """Threads that read and resize images ahead."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the image tower computes in."""

    def run(self) -> int:
        """Name the boxes, write the new file, say how far both agree."""
        from regionclip.data.readers.coco import read_coco, read_content
        from regionclip.evaluation.finding import data_vocabulary
        from regionclip.evaluation.relabelling import agreement, name_annotations, relabelled

        if self.output.exists():
            raise UsageError(f"{self.output} exists, and nothing is overwritten; name another file")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be at least 1, got {getattr(self, name)}")
        content = read_content(self.source)
        dataset = read_coco(self.source, image_root=self.image_root)
        detector = self._load_model()
        failures: list[ImageReadError] = []

        def note(_: int, error: "ImageReadError") -> None:
            failures.append(error)
            errors.print(str(error), markup=False, soft_wrap=True)

        with progress("Naming boxes", len(dataset)) as advance:
            labels = name_annotations(
                detector,
                dataset,
                data_vocabulary(detector, dataset),
                batch_size=self.batch_size,
                num_workers=self.workers,
                unreadable=note,
                progress=advance,
            )
        ids = [each.id for each in dataset.categories]
        named = relabelled(content, {each: ids[label] for each, label in labels.items()})
        with replacing(self.output) as file:
            file.write_text(json.dumps(named), encoding="utf-8")
        _say(self.output, agreement(dataset, labels), len(failures))
        return 1 if failures else 0

    def _load_model(self) -> "Detector":
        from regionclip.loading import LoadOptions, load

        device = checked_device(self.device)
        with downloads() as show:
            return load(
                self.model,
                device=device,
                precision=self.precision,
                region_prompt=self.region_prompt,
                options=LoadOptions(progress=show),
            )


def _say(output: Path, agreements: "Sequence[Agreement]", num_failures: int) -> None:
    total, *by_class = agreements
    named = sorted((each for each in by_class if each.num_boxes), key=lambda each: each.share)
    rows = [
        (each.name, str(each.num_boxes), f"{100 * each.share:.1f}") for each in named[:MOST_CLASSES]
    ]
    print_table("Named as annotated (%), the least first", ("class", "boxes", "same"), rows)
    line = f"{total.num_same} of {total.num_boxes} boxes are named as they were annotated"
    if total.num_boxes:
        line += f" ({100 * total.share:.1f} %)"
    if num_failures:
        line += f"; {num_failures} images could not be read (named above), and keep their labels"
    console.print(line, markup=False, soft_wrap=True)
    console.print(f"written to {output}", markup=False, soft_wrap=True)
