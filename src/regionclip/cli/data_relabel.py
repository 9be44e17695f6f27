"""``regionclip data relabel``: annotated boxes called what a model calls them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regionclip.cli.annotating import MOST_CLASSES, AnnotatingCommand, noting
from regionclip.cli.console import console, print_table, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regionclip.data.images import ImageReadError
    from regionclip.evaluation.relabelling import Agreement


@dataclass(frozen=True, kw_only=True)
class DataRelabel(AnnotatingCommand):
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

    def run(self) -> int:
        """Name the boxes, write the new file, say how far both agree."""
        from regionclip.data.readers.coco import read_coco, read_content
        from regionclip.evaluation.finding import data_vocabulary
        from regionclip.evaluation.relabelling import agreement, name_annotations, relabelled

        self.check_options()
        content = read_content(self.source)
        dataset = read_coco(self.source, image_root=self.image_root)
        detector = self.load_model()
        failures: list[ImageReadError] = []
        with progress("Naming boxes", len(dataset)) as advance:
            labels = name_annotations(
                detector,
                dataset,
                data_vocabulary(detector, dataset),
                batch_size=self.batch_size,
                num_workers=self.workers,
                unreadable=noting(failures),
                progress=advance,
            )
        ids = [each.id for each in dataset.categories]
        named = relabelled(content, {each: ids[label] for each, label in labels.items()})
        self.write(named)
        _say(agreement(dataset, labels), len(failures))
        self.say_where()
        return 1 if failures else 0


def _say(agreements: "Sequence[Agreement]", num_failures: int) -> None:
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
