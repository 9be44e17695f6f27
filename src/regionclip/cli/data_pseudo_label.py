"""``regionclip data pseudo-label``: boxes of novel classes that a model finds, to train on."""

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
    from collections.abc import Mapping

    from regionclip.data.images import ImageReadError
    from regionclip.detect import Detector
    from regionclip.structures import Detections

MOST_CLASSES = 20
"""Rows of the table: the classes of which most was found."""


@dataclass(frozen=True, kw_only=True)
class DataPseudoLabel:
    """Write a COCO json with boxes of novel classes that a model finds beside those of people.

    The model is asked for the file's classes and the novel ones; kept are sure boxes of novel
    classes that overlap no box of people. Those are marked (is_pseudo, score), and so are their
    classes (split: novel). Nothing is overwritten.

    CORA+ goes on to train a localiser on such a file; its recipes say data.novel_boxes = "pseudo".

    For example:

        regionclip data pseudo-label train_base.json --novel coco17 --model cora.safetensors
        --image-root coco/train2017 --output train_pseudo.json
    """

    source: Annotated[Positional[Path], value("JSON")]
    """A COCO json with boxes of base classes."""
    output: Annotated[Path, value("JSON")]
    """A file that is not there yet."""
    model: Annotated[str, value("NAME|FILE")]
    """What finds and names: a name that 'regionclip models list' shows, or a checkpoint."""
    novel: Annotated[str, value("NAMES|FILE|LIST")]
    """The novel classes: 'cat, remote control', a file with one name per line, or a built-in list
    such as coco17 or lvis337."""
    proposals: Annotated[str | None, optional("NAME|FILE")] = None
    """Where boxes come from, for models that find none themselves: as for 'regionclip detect'."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images are; by default beside the json."""
    min_score: Annotated[float, value("SCORE")] = 0.2
    """Lowest score of a box, 0 to 1."""
    max_iou: Annotated[float, value("IOU")] = 0.5
    """Boxes that overlap one of people this much or more are left out."""
    batch_size: Annotated[int, value("N")] = 1
    """Images computed at a time; more is faster on a GPU."""
    workers: Annotated[int, value("N")] = 4
    """Threads that read and resize images ahead."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the image tower computes in."""

    def run(self) -> int:
        """Find the boxes, write the new file, say what was found."""
        from regionclip.cli.classes import parse_names
        from regionclip.data.readers.coco import read_coco, read_content
        from regionclip.evaluation.pseudo_labels import (
            PseudoRules,
            find_pseudo_boxes,
            with_pseudo_boxes,
        )

        if self.output.exists():
            raise UsageError(f"{self.output} exists, and nothing is overwritten; name another file")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be at least 1, got {getattr(self, name)}")
        rules = PseudoRules(min_score=self.min_score, max_iou=self.max_iou)
        novel = parse_names(self.novel)
        content = read_content(self.source)
        with_pseudo_boxes(content, {}, novel)  # refused now rather than after hours
        dataset = read_coco(self.source, image_root=self.image_root)
        detector = self._load_model()
        failures: list[ImageReadError] = []

        def note(_: int, error: "ImageReadError") -> None:
            failures.append(error)
            errors.print(str(error), markup=False, soft_wrap=True)

        with progress("Finding boxes", len(dataset)) as advance:
            found = find_pseudo_boxes(
                detector,
                dataset,
                novel,
                rules=rules,
                batch_size=self.batch_size,
                num_workers=self.workers,
                unreadable=note,
                progress=advance,
            )
        with replacing(self.output) as file:
            file.write_text(json.dumps(with_pseudo_boxes(content, found, novel)), encoding="utf-8")
        _say(self.output, found, novel)
        return 1 if failures else 0

    def _load_model(self) -> "Detector":
        from regionclip.loading import LoadOptions, load

        device = checked_device(self.device)
        with downloads() as show:
            return load(
                self.model,
                device=device,
                precision=self.precision,
                proposals=self.proposals,
                options=LoadOptions(progress=show),
            )


def _say(output: Path, found: "Mapping[int | str, Detections]", novel: tuple[str, ...]) -> None:
    counts = dict.fromkeys(novel, 0)
    for own in found.values():
        for label in own.labels.tolist():
            counts[novel[label]] += 1
    most = sorted(counts.items(), key=lambda each: -each[1])[:MOST_CLASSES]
    rows = [(name, str(count)) for name, count in most]
    print_table("Boxes found of novel classes", ("class", "boxes"), rows)
    console.print(f"{sum(counts.values())} boxes in {len(found)} images", markup=False)
    console.print(f"written to {output}", markup=False, soft_wrap=True)
