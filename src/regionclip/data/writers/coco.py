"""A data set of any format as COCO's ``instances`` dictionary, which says how it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from regionclip.data.datasets import Dataset
from regionclip.data.readers.coco import coco_dictionary
from regionclip.data.readers.opening import Format

from .images import size_of

NUM_DECIMALS = 4
"""Of coordinates: a ten-thousandth of a pixel, below what float32 resolves at 1000 pixels."""
ORIGINS: Mapping[Format, str] = {
    "voc": "Pascal VOC counts pixels from 1 and its boxes include their last pixel: 1 was "
    "subtracted from xmin and ymin (a 0 stayed 0), nothing from xmax and ymax. Names are in lower "
    "case.",
    "yolo": "YOLO's shares were multiplied by the size of the image turned upright. A polygon's "
    "box is the one around it, its area its own.",
}
"""How boxes of other formats became COCO's."""


def written_coco(dataset: Dataset, file_names: Sequence[str], *, origin: Format) -> dict[str, Any]:
    """Make COCO's dictionary, with ``info`` that says what was done.

    Image ids stay if all are integers, else count from 1. Category ids stay, or are raised by 1 if
    one is 0, which some tools take for background. Difficult objects get ``ignore: 1``.

    Args:
        dataset: With boxes.
        file_names: One per image.
        origin: The format that it was read from.

    Raises:
        ValueError: It has no categories, or an image's size is neither annotated nor to be read.
    """
    if not dataset.categories:
        raise ValueError(f"{dataset.source} has no categories: only boxes can be written as COCO")
    has_numbers = all(isinstance(each.image_id, int) for each in dataset)
    samples = tuple(
        replace(
            each,
            name=name,
            image_id=each.image_id if has_numbers else number,
            size_hw=size_of(each),
        )
        for number, (each, name) in enumerate(zip(dataset, file_names, strict=True), start=1)
    )
    shift = int(any(each.id == 0 for each in dataset.categories))
    categories = tuple(replace(each, id=each.id + shift) for each in dataset.categories)
    content = coco_dictionary(Dataset(dataset.source, categories, samples))
    for row in content["annotations"]:
        row["bbox"] = [round(each, NUM_DECIMALS) for each in row["bbox"]]
        row["area"] = round(row["area"], NUM_DECIMALS)
    return {"info": _info(dataset, origin, shift)} | content


def _info(dataset: Dataset, origin: Format, shift: int) -> dict[str, Any]:
    notes = [ORIGINS[origin]] if origin in ORIGINS else []
    notes.append("bbox is [x, y, width, height] from 0, not clipped to the image.")
    num_difficult = sum(int(each.objects.is_difficult.sum()) for each in dataset)
    if origin == "voc" or num_difficult:
        notes.append(
            f"{num_difficult} difficult objects have ignore 1 and iscrowd 0: COCO's metrics count "
            "them as any other object, Pascal VOC's metrics do not count them."
        )
    if shift:
        notes.append("Category ids are the class numbers plus 1.")
    num_empty = sum(not len(each.objects) for each in dataset)
    notes.append(f"{num_empty} images have no boxes and stay.")
    return {"description": "written by regionclip data convert", "conversion": notes}
