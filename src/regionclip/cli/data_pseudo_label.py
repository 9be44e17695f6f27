"""``regionclip data pseudo-label``: boxes of novel classes that a model finds, to train on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from regionclip.cli.annotating import MOST_CLASSES, AnnotatingCommand, noting
from regionclip.cli.console import console, print_table, progress
from regionclip.cli.options import optional, value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regionclip.data.images import ImageReadError
    from regionclip.structures import Detections


@dataclass(frozen=True, kw_only=True)
class DataPseudoLabel(AnnotatingCommand):
    """Write a COCO json with boxes of novel classes that a model finds beside those of people.

    The model is asked for the file's classes, the base ones, and the novel ones; kept are sure
    boxes of novel classes that overlap no box of people. Those are marked (is_pseudo, score), and
    so are their classes (split: novel). Nothing is overwritten.

    CORA+ goes on to train a localiser on such a file; its recipes say data.novel_boxes = "pseudo".

    For example:

        regionclip data pseudo-label train_base.json --novel coco17 --model cora.safetensors
        --image-root coco/train2017 --output train_pseudo.json
    """

    novel: Annotated[str, value("NAMES|FILE|LIST")]
    """The novel classes: 'cat, remote control', a file with one name per line, or a built-in list
    such as coco17 or lvis337."""
    proposals: Annotated[str | None, optional("NAME|FILE")] = None
    """Where boxes come from, for models that find none themselves: as for 'regionclip detect'."""
    min_score: Annotated[float, value("SCORE")] = 0.2
    """Lowest score of a box, 0 to 1."""
    max_iou: Annotated[float, value("IOU")] = 0.5
    """Boxes that overlap one of people this much or more are left out."""

    def run(self) -> int:
        """Find the boxes, write the new file, say what was found."""
        from regionclip.cli.classes import parse_names
        from regionclip.data.readers.coco import read_coco, read_content
        from regionclip.evaluation.pseudo_labels import (
            PseudoRules,
            find_pseudo_boxes,
            with_pseudo_boxes,
        )

        self.check_options()
        rules = PseudoRules(min_score=self.min_score, max_iou=self.max_iou)
        novel = parse_names(self.novel)
        content = read_content(self.source)
        with_pseudo_boxes(content, {}, novel)  # refused now rather than after hours
        dataset = read_coco(self.source, image_root=self.image_root)
        detector = self.load_model(proposals=self.proposals)
        failures: list[ImageReadError] = []
        with progress("Finding boxes", len(dataset)) as advance:
            found = find_pseudo_boxes(
                detector,
                dataset,
                novel,
                rules=rules,
                batch_size=self.batch_size,
                num_workers=self.workers,
                unreadable=noting(failures),
                progress=advance,
            )
        self.write(with_pseudo_boxes(content, found, novel))
        _say(found, novel)
        self.say_where()
        return 1 if failures else 0


def _say(found: "Mapping[int | str, Detections]", novel: tuple[str, ...]) -> None:
    counts = dict.fromkeys(novel, 0)
    for own in found.values():
        for label in own.labels.tolist():
            counts[novel[label]] += 1
    most = sorted(counts.items(), key=lambda each: -each[1])[:MOST_CLASSES]
    rows = [(name, str(count)) for name, count in most]
    print_table("Boxes found of novel classes", ("class", "boxes"), rows)
    console.print(f"{sum(counts.values())} boxes in {len(found)} images", markup=False)
