"""Proposals paired with the boxes of their image, and the share of them that enters a loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_iou

from regionclip.data.sampling import mixed_seed
from regionclip.structures import Targets

Permutation = Callable[[int], Tensor]
"""From a number of rows to an order of them; ``torch.arange`` leaves them as they are."""


@dataclass(frozen=True, slots=True)
class LabelledRegions:
    """Regions of one image that enter a loss, those on objects first.

    Attributes:
        boxes: ``xyxy``, in the pixels of the proposals and targets.
        labels: Index into the training classes; their number for background.
        target_index: The object that overlaps the region most, also where that is too little to
            take its label; 0 in an image without objects.
        num_foreground: How many rows are on objects.
    """

    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    target_index: Int[Tensor, " N"]
    num_foreground: int

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    def part(self, start: int, stop: int) -> "LabelledRegions":
        """The rows from ``start`` on and before ``stop``."""
        rows = slice(start, min(stop, len(self)))
        num_foreground = min(max(self.num_foreground - start, 0), rows.stop - start)
        return LabelledRegions(
            self.boxes[rows], self.labels[rows], self.target_index[rows], num_foreground
        )


def foreground_rows(regions: Sequence[LabelledRegions]) -> Int[Tensor, " F"]:
    """Positions of regions on objects where the regions of images stand after one another."""
    rows, start = [torch.zeros(0, dtype=torch.int64)], 0
    for own in regions:
        rows.append(torch.arange(start, start + own.num_foreground))
        start += len(own)
    return torch.cat(rows)


def in_chunks(
    regions: Sequence[LabelledRegions], size: int
) -> list[list[tuple[int, LabelledRegions]]]:
    """The regions of images, after one another, cut into pieces of ``size``.

    Returns:
        Per piece, image by image, the image's position and its part. The last piece may be
        smaller; without any region there is one piece, of no part.
    """
    chunks: list[list[tuple[int, LabelledRegions]]] = [[]]
    free = size
    for image, own in enumerate(regions):
        start = 0
        while start < len(own):
            if free == 0:
                chunks.append([])
                free = size
            part = own.part(start, start + free)
            chunks[-1].append((image, part))
            start, free = start + len(part), free - len(part)
    return chunks


def random_permutation(seed: int) -> Permutation:
    """Random orders, drawn one after another from a generator that nothing else draws from."""
    # another stream than the one that the image was resized and mirrored by
    generator = torch.Generator().manual_seed(mixed_seed(seed, 2))
    return lambda count: torch.randperm(count, generator=generator)


def pair_regions(
    proposals: Float[Tensor, "R 4"],
    targets: Targets,
    *,
    num_classes: int,
    permutation: Permutation,
    match_iou: float = 0.5,
    regions_per_image: int = 512,
    foreground_share: float = 0.25,
) -> LabelledRegions:
    """Label proposals by the objects they are on, and draw some of them.

    The objects' own boxes join the proposals, after them: each object is learned from at least
    its box while the sample has room. An image without proposals and objects gives no region.

    Args:
        proposals: ``xyxy``, in the pixels of ``targets``, on the same device.
        targets: Objects of the image.
        num_classes: Classes that are trained; the label of background.
        permutation: Asked for the order in which regions on objects are taken, then for that of
            background.
        match_iou: A region takes the label of the object that it overlaps most from this overlap
            on.
        regions_per_image: Regions drawn, or all, if there are fewer.
        foreground_share: Most of them, as a fraction, that are on objects; what objects do not
            fill, background does.

    Raises:
        ValueError: An object's label is none of the training classes.

    Source:
        Fast R-CNN (arXiv:1504.08083), sec. 2.3; the defaults and the objects' own boxes as
        detectron2@e3ee0ab ``detectron2/modeling/roi_heads/roi_heads.py``
        (``label_and_sample_proposals``) with ``detectron2/config/defaults.py``.
    """
    check_labels(targets.labels, num_classes)
    boxes = torch.cat([proposals.to(targets.boxes.dtype), targets.boxes])
    labels, target_index = match_boxes(
        boxes, targets, background_label=num_classes, match_iou=match_iou
    )
    is_background = labels == num_classes
    foreground, background = sample_rows(
        ~is_background,
        is_background,
        count=regions_per_image,
        foreground_share=foreground_share,
        permutation=permutation,
    )
    rows = torch.cat([foreground, background])
    return LabelledRegions(boxes[rows], labels[rows], target_index[rows], len(foreground))


def match_boxes(
    boxes: Float[Tensor, "R 4"], targets: Targets, *, background_label: int, match_iou: float
) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """The label of each box, and the object that it overlaps most.

    Args:
        boxes: ``xyxy``, in the pixels of ``targets``.
        targets: Objects; none makes everything background.
        background_label: Label of boxes that overlap no object by ``match_iou``.
        match_iou: Overlap from which a box takes the label of its best object.
    """
    if len(targets) == 0:
        index = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return index + background_label, index
    best, index = box_iou(targets.boxes, boxes).max(dim=0)
    labels = targets.labels.long()[index]
    return labels.masked_fill(best < match_iou, background_label), index


def sample_rows(
    is_foreground: Bool[Tensor, " R"],
    is_background: Bool[Tensor, " R"],
    *,
    count: int,
    foreground_share: float,
    permutation: Permutation,
) -> tuple[Int[Tensor, " F"], Int[Tensor, " G"]]:
    """Draw rows: at most a share of foreground, the rest background; rows that are neither stay.

    Args:
        is_foreground: Rows on objects.
        is_background: Rows on none.
        count: How many to draw in all; fewer, if there are not as many.
        foreground_share: Most of ``count``, as a fraction, that is foreground.
        permutation: Asked for the order of foreground, then of background.

    Returns:
        Indices of foreground and of background, in the order drawn.
    """
    foreground, background = is_foreground.nonzero()[:, 0], is_background.nonzero()[:, 0]
    foreground = _first(foreground, int(count * foreground_share), permutation)
    return foreground, _first(background, count - len(foreground), permutation)


def _first(rows: Tensor, number: int, permutation: Permutation) -> Tensor:
    return rows[permutation(len(rows)).to(rows.device)[:number]]


def check_labels(labels: Int[Tensor, " N"], num_classes: int) -> None:
    """Refuse objects of classes that are not trained.

    Raises:
        ValueError: A label is not in ``[0, num_classes)``.
    """
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        raise ValueError(
            f"an object has the label {int(labels[wrong][0])}, but {num_classes} classes are "
            "trained (labels from 0 on); a class that is not trained must not come with boxes"
        )
