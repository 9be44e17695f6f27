"""What travels between the stages: frozen dataclasses of tensors, zero rows always valid."""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from regionclip.data.datasets import Member

if TYPE_CHECKING:
    import supervision

ImageSource = str | Path | Member | Image.Image | np.ndarray | Tensor
"""A path, a file in a tar archive, a PIL image, an RGB ``uint8`` array ``(H, W, 3)``, or an RGB
tensor ``(3, H, W)`` that is ``uint8`` or float in [0, 1]."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One image at the size the networks see.

    Attributes:
        pixels: RGB in [0, 1], before mean and standard deviation.
        original_size_hw: Height and width of the image as the caller gave it.
        name: How errors, files and box tables call the image (its path, or ``image 3``).
    """

    pixels: Float[Tensor, "3 H W"]
    original_size_hw: tuple[int, int]
    name: str

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of ``pixels``."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    @property
    def scale_xyxy(self) -> Float[Tensor, " 4"]:
        """Multiply ``boxes_input`` (pixels of ``pixels``) by this to get original pixels."""
        height, width = self.size_hw
        original_height, original_width = self.original_size_hw
        scale_x, scale_y = original_width / width, original_height / height
        return torch.tensor([scale_x, scale_y, scale_x, scale_y])


@dataclass(frozen=True, slots=True)
class Proposals:
    """Class-agnostic regions of one image, in decreasing objectness where that is known.

    Attributes:
        boxes: ``xyxy``, pixels of the prepared image (``PreparedImage.pixels``), inside it.
        objectness: Class-free logits, unbounded; ``None`` for boxes that somebody gave.
        features: What an image tower made of the boxes before, in its joint space, of any length
            and precision; ``None`` if none did.
    """

    boxes: Float[Tensor, "R 4"]
    objectness: Float[Tensor, " R"] | None = None
    features: Float[Tensor, "R D"] | None = None

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    def select(self, rows: Tensor) -> "Proposals":
        """Keep ``rows`` (indices in the order wanted, or a boolean mask)."""
        index = rows.to(self.boxes.device)
        return self._of_each(lambda values: values[index])

    def to(self, device: torch.device) -> "Proposals":
        """The same on a device."""
        return self._of_each(lambda values: values.to(device))

    def _of_each(self, change: Callable[[Tensor], Tensor]) -> "Proposals":
        return Proposals(
            change(self.boxes),
            None if self.objectness is None else change(self.objectness),
            None if self.features is None else change(self.features),
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """What one image teaches a detector: no crowds, no empty boxes; zero objects are fine.

    Attributes:
        boxes: ``xyxy``, pixels of the image they come with, inside it.
        labels: Index into the training classes.
        polygons: Per object, polygons ``(P, 2)`` of ``x, y`` in the same pixels; ``None`` where
            nothing has a mask.
    """

    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    polygons: tuple[tuple[Tensor, ...], ...] | None = None

    def __len__(self) -> int:
        return int(self.boxes.shape[0])


@dataclass(frozen=True, slots=True)
class DetectionBatch:
    """Images of any sizes with what they teach: one step's input to a detector that learns.

    Attributes:
        images: RGB in [0, 1], augmented and resized, not padded.
        targets: One per image.
        seeds: One per image, fixed by the run's seed and the image's place in it: what is drawn at
            random for an image (its regions) depends on nothing else, so that the number of
            processes and a resumed run change nothing.
        step: Of the run, from 0 on: what is drawn once per step, in all processes alike.
    """

    images: tuple[Float[Tensor, "3 _ _"], ...]
    targets: tuple[Targets, ...]
    seeds: tuple[int, ...]
    step: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that could not be learned from, so that the next sample took its place.

    Attributes:
        reason: One of a few, to count by: ``unreadable image``, ``no caption``, ...
        message: One sentence that names it.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CaptionedBatch:
    """Images of any sizes with a caption each: one step's input to pretraining.

    Attributes:
        images: RGB in [0, 1], augmented and resized, not padded.
        captions: One per image: of several, one was drawn.
        seeds: As those of :class:`DetectionBatch`.
        names: What errors and logs call the images.
        proposals: Boxes that were computed ahead, per image, in its pixels; ``None`` leaves it to
            the learner to propose some.
        left_out: What came up for this batch and could not be used.
    """

    images: tuple[Float[Tensor, "3 _ _"], ...]
    captions: tuple[str, ...]
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    proposals: tuple[Proposals, ...] | None = None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Tiles:
    """The images that one picture was laid of, row by row, or the one image that it is.

    Attributes:
        boxes: ``xyxy``, pixels of the picture: where each image lies in it.
        side: Images a side; 1 for a picture that is one image.
        image_ids: Equal for tiles of one image, in whatever picture and process.
        captions: One per tile: of several, one was drawn.
        tags: Per tile, the classes that its image's captions name, by their index in the list that
            the run tags with; none where it tags with none.
    """

    boxes: Float[Tensor, "N 4"]
    side: int
    image_ids: Int[Tensor, " N"]
    captions: tuple[str, ...]
    tags: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return int(self.boxes.shape[0])


@dataclass(frozen=True, slots=True)
class TiledBatch:
    """Pictures of captioned images: one step's input to a detector that learns from captions.

    Attributes:
        images: RGB in [0, 1], augmented and resized, not padded.
        tiles: One per picture.
        seeds: As those of :class:`DetectionBatch`.
        left_out: As those of :class:`CaptionedBatch`.
    """

    images: tuple[Float[Tensor, "3 _ _"], ...]
    tiles: tuple[Tiles, ...]
    seeds: tuple[int, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class CropBatch:
    """Images with regions that have been cut out too: one step's input to self-distillation.

    Attributes:
        images: RGB in [0, 1], each fitted into the upper left of a square, the rest black.
        boxes: Per image, ``xyxy`` in pixels of the square.
        crops: Per box of all images, image after image, what the teacher sees of it: RGB in
            [0, 1].
        step: As that of :class:`DetectionBatch`.
    """

    images: Float[Tensor, "B 3 S S"]
    boxes: tuple[Float[Tensor, "_ 4"], ...]
    crops: Float[Tensor, "N 3 s s"]
    step: int = 0


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one image, best first.

    Attributes:
        boxes: ``xyxy``, absolute pixels of the original image.
        scores: In [0, 1] (the option ``objectness_fusion="raw"`` alone exceeds 1).
        labels: Index into ``class_names``.
        class_names: The vocabulary of this call, in the caller's order.
        objectness: Class-free score in [0, 1], if the proposals had one.
        features: Text-aligned region vectors, not normalised, if they were asked for.
        masks: One boolean mask in original pixels per row, if the model has a mask head.
        image: What was given to ``detect``, for :meth:`save`; a path stays a path.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]
    class_names: tuple[str, ...]
    objectness: Float[Tensor, " N"] | None = None
    features: Float[Tensor, "N D"] | None = None
    masks: Bool[Tensor, "N H W"] | None = None
    image: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    @property
    def names(self) -> tuple[str, ...]:
        """The class name of each row."""
        return tuple(self.class_names[label] for label in self.labels.tolist())

    def select(self, rows: Tensor | Sequence[int]) -> "Detections":
        """Keep ``rows`` (indices in the order wanted, or a boolean mask)."""
        index = torch.as_tensor(rows, device=self.boxes.device)
        if index.numel() == 0:
            index = index.long()

        def taken(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            objectness=taken(self.objectness),
            features=taken(self.features),
            masks=taken(self.masks),
        )

    def unique_boxes(self) -> "Detections":
        """Keep the best class of each box: rows whose box equals an earlier row's go.

        Source:
            microsoft/RegionCLIP@4b8513b ``tools/visualize_json_results.py``.
        """
        seen: set[tuple[float, ...]] = set()
        rows = []
        for row, box in enumerate(self.boxes.tolist()):
            if tuple(box) not in seen:
                seen.add(tuple(box))
                rows.append(row)
        return self.select(rows)

    def to_dict(self) -> list[dict[str, Any]]:
        """One plain dictionary per row, ready for JSON (no features, no masks)."""
        objectness = [None] * len(self) if self.objectness is None else self.objectness.tolist()
        return [
            {"box": box, "score": score, "label": label, "name": name, "objectness": objectness_}
            for box, score, label, name, objectness_ in zip(
                self.boxes.tolist(),
                self.scores.tolist(),
                self.labels.tolist(),
                self.names,
                objectness,
                strict=True,
            )
        ]

    def to_coco(
        self, image_id: int | str, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Rows as COCO result entries: ``bbox`` is ``[x, y, width, height]`` in original pixels.

        Masks, if there are any, are their ``segmentation``, in COCO's compressed run lengths.

        Args:
            image_id: Written into every row.
            category_ids: The data set's id of each class name; by default ``label + 1``.
        """
        rows = []
        for box, score, label in zip(
            self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
        ):
            x0, y0, x1, y1 = box
            category_id = label + 1 if category_ids is None else category_ids[label]
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": score,
                }
            )
        if self.masks is not None:
            from regionclip.detections.run_lengths import encode_masks

            size = list(self.masks.shape[1:])
            for row, counts in zip(rows, encode_masks(self.masks), strict=True):
                row["segmentation"] = {"size": size, "counts": counts}
        return rows

    def to_supervision(self) -> "supervision.Detections":
        """The same rows as ``supervision.Detections``; names under ``data["class_name"]``."""
        return import_supervision().Detections(
            xyxy=self.boxes.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.labels.cpu().numpy(),
            mask=None if self.masks is None else self.masks.cpu().numpy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def save(self, path: str | Path, *, min_score: float = 0.0) -> None:
        """Draw the rows of at least ``min_score`` on the image and write the picture to ``path``.

        Raises:
            ValueError: The detections do not know their image (they were built by hand).
        """
        if self.image is None:
            raise ValueError(
                "these detections carry no image to draw on; use "
                "regionclip.visualize.draw_detections(image, detections)"
            )
        from regionclip.data.images import read_image
        from regionclip.visualize import draw_detections

        kept = self.select((self.scores >= min_score).nonzero()[:, 0])
        draw_detections(read_image(self.image), kept).save(path)


def import_supervision() -> ModuleType:
    """Import ``supervision`` without its complaint that OpenCV is missing.

    It needs none, and the builds of OpenCV that other packages bring overwrite each other.
    """
    if "supervision" in sys.modules:  # warning filters belong to all threads: touch them once
        return sys.modules["supervision"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OpenCV", category=UserWarning)
        import supervision
    return supervision
