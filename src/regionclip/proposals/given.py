"""Boxes that the caller gives."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionclip.regions.inputs import listed_boxes_input
from regionclip.structures import PreparedImage, Proposals

BoxesLike = Tensor | np.ndarray | Sequence[Any]
"""Rows of ``xyxy``; an empty list is zero boxes."""


class GivenBoxes:
    """A proposer that gives each image the boxes written down for it.

    Attributes:
        boxes: ``xyxy`` in pixels of the original image, by :attr:`PreparedImage.name`.
    """

    def __init__(self, boxes: Mapping[str, BoxesLike]) -> None:
        self.boxes = boxes

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """The boxes of each image, row for row, without objectness.

        What lies outside the image is cut off; a box wholly outside stays as a row without area.

        Raises:
            ValueError: An image has no entry, or its entry is not rows of four finite numbers.
        """
        return [self._propose(image) for image in images]

    def _propose(self, image: PreparedImage) -> Proposals:
        if image.name not in self.boxes:
            raise ValueError(
                f"no boxes were given for {image.name}; boxes were given for "
                f"{', '.join(list(self.boxes)[:3]) or 'no image'} ({len(self.boxes)} in all)"
            )
        boxes = self.boxes[image.name]
        try:
            rows = torch.as_tensor(boxes, dtype=torch.float32)
            return Proposals(listed_boxes_input(rows if len(rows) else rows.reshape(0, 4), image))
        except (TypeError, ValueError) as error:
            raise ValueError(f"the boxes of {image.name} cannot be used: {error}") from error
