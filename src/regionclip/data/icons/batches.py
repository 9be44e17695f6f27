"""Batches that training learns from: captioned images, and scenes with boxes of base classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from regionclip.data.sampling import mixed_seed
from regionclip.data.transforms import resize_shortest_edge
from regionclip.structures import CaptionedBatch

from .backgrounds import DOMAINS, Domain
from .captions import names_in_caption
from .glyphs import BASE_NAMES, CLASS_NAMES
from .scenes import SCENE_SIZE, Scene, draw_close_up, draw_scene

DAY_SHARE = 0.7
"""Of the images that training sees; the others are in other weathers."""


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Images of one size with a caption each; no boxes, no labels.

    Attributes:
        pixels: RGB, 0 to 255.
        captions: One per image.
        is_positive: Image and caption belong together: their captions read the same.
        is_ignored: The captions differ but name a common class, so both may be true.
    """

    pixels: UInt8[Tensor, "B 3 S S"]
    captions: tuple[str, ...]
    is_positive: Bool[Tensor, "B B"]
    is_ignored: Bool[Tensor, "B B"]


@dataclass(frozen=True, slots=True)
class BoxBatch:
    """Scenes with the boxes of base classes, which are all that they show.

    Attributes:
        pixels: RGB, 0 to 255.
        boxes: ``xyxy`` in pixels, all scenes one after another.
        image_index: Which scene each box is in.
        labels: Index into ``BASE_NAMES``.
    """

    pixels: UInt8[Tensor, "B 3 S S"]
    boxes: Float32[Tensor, "R 4"]
    image_index: Int64[Tensor, " R"]
    labels: Int64[Tensor, " R"]


class CaptionBatches(Dataset[CaptionBatch]):
    """Close-ups of every class and some scenes; the batch of a step is fixed by seed and step."""

    def __init__(
        self,
        *,
        seed: int,
        num_batches: int,
        batch_size: int,
        image_sizes: Sequence[int],
        scene_share: float,
        num_images: int | None = None,
        day_share: float = DAY_SHARE,
    ) -> None:
        """Draw nothing yet.

        Args:
            seed: Of all chance.
            num_batches: Steps.
            batch_size: Images per step.
            image_sizes: Pixels a side; steps take turns.
            scene_share: Fraction of a batch that are scenes.
            num_images: Different images, which are drawn once, kept in memory, and come again in
                another order; ``None`` never shows one twice.
            day_share: Fraction of the images that are by day; the others are in other weathers.

        Raises:
            ValueError: ``num_images`` is smaller than a batch.
        """
        if num_images is not None and num_images < batch_size:
            raise ValueError(
                f"{num_images} different images are fewer than a batch of {batch_size}"
            )
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size
        self.image_sizes, self.scene_share = tuple(image_sizes), scene_share
        self.num_images, self.day_share = num_images, day_share
        self._kept: dict[tuple[int, int, bool], tuple[np.ndarray, str]] = {}

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> CaptionBatch:
        size = self.image_sizes[step % len(self.image_sizes)]
        num_scenes = round(self.scene_share * self.batch_size)
        examples = [
            self._drawn(index, size, is_scene=row < num_scenes)
            for row, index in enumerate(self._indices(step))
        ]
        captions = tuple(caption for _, caption in examples)
        is_positive, is_ignored = caption_relations(captions)
        pixels = _stacked([own for own, _ in examples])
        return CaptionBatch(pixels, captions, is_positive, is_ignored)

    def _indices(self, step: int) -> list[int]:
        """Which images a step shows; every one once before any comes again."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        if self.num_images is None:
            return list(places)
        orders = {
            turn: np.random.default_rng((self.seed, turn)).permutation(self.num_images)
            for turn in {place // self.num_images for place in places}
        }
        return [int(orders[place // self.num_images][place % self.num_images]) for place in places]

    def _drawn(self, index: int, size: int, *, is_scene: bool) -> tuple[np.ndarray, str]:
        key = index, size, is_scene
        if key in self._kept:
            return self._kept[key]
        draw = draw_scene if is_scene else draw_close_up
        domain = _domain(index, self.day_share)
        scene = draw(self.seed, index, size=size, domain=domain, split="train")
        if self.num_images is not None:
            self._kept[key] = scene.pixels, scene.caption
        return scene.pixels, scene.caption


class BoxBatches(Dataset[BoxBatch]):
    """Scenes of base classes only: a novel icon has no box, so it would be taught as background."""

    def __init__(self, *, seed: int, num_batches: int, batch_size: int) -> None:
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> BoxBatch:
        scenes = [
            draw_scene(
                # captioned scenes of the same seed must not lend their boxes: other streams
                self.seed + 1,
                step * self.batch_size + row,
                size=SCENE_SIZE,
                domain=_domain(step * self.batch_size + row),
                class_names=BASE_NAMES,
                split="train",
            )
            for row in range(self.batch_size)
        ]
        base_label = np.array([_base_label(name) for name in CLASS_NAMES])
        counts = torch.tensor([len(scene.labels) for scene in scenes])
        return BoxBatch(
            pixels=_stack(scenes),
            boxes=torch.from_numpy(np.concatenate([scene.boxes for scene in scenes])),
            image_index=torch.arange(len(scenes)).repeat_interleave(counts),
            labels=torch.from_numpy(base_label[np.concatenate([scene.labels for scene in scenes])]),
        )


class CaptionedScenes(Dataset[CaptionedBatch]):
    """Scenes of all classes with a caption each, and nothing else that is known about them."""

    def __init__(self, *, seed: int, num_batches: int, batch_size: int, shortest_side: int) -> None:
        """Draw nothing yet.

        Args:
            seed: Of all chance.
            num_batches: Steps.
            batch_size: Images per step.
            shortest_side: Pixels that scenes are resized to, as detection resizes them.
        """
        self.seed, self.num_batches, self.batch_size = seed, num_batches, batch_size
        self.shortest_side = shortest_side

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, step: int) -> CaptionedBatch:
        indices = range(step * self.batch_size, (step + 1) * self.batch_size)
        scenes = [
            draw_scene(self.seed, index, domain=_domain(index), split="train") for index in indices
        ]
        side = self.shortest_side
        return CaptionedBatch(
            images=tuple(
                resize_shortest_edge(Image.fromarray(each.pixels), shortest=side, longest=side)
                for each in scenes
            ),
            captions=tuple(each.caption for each in scenes),
            seeds=tuple(mixed_seed(self.seed, index) for index in indices),
            names=tuple(f"scene {index}" for index in indices),
        )


def captions_of_scenes(count: int, *, seed: int) -> list[str]:
    """What captions of scenes read like; no scene of :class:`CaptionedScenes` is among them."""
    return [draw_scene(seed + 1, index, split="train").caption for index in range(count)]


class PairedBatches(Dataset[tuple[CaptionBatch, BoxBatch]]):
    """A batch of captions and a batch of boxes per step."""

    def __init__(self, captions: CaptionBatches, boxes: BoxBatches) -> None:
        self.captions, self.boxes = captions, boxes

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, step: int) -> tuple[CaptionBatch, BoxBatch]:
        return self.captions[step], self.boxes[step]


def caption_relations(
    captions: Sequence[str],
) -> tuple[Bool[Tensor, "B B"], Bool[Tensor, "B B"]]:
    """Which captions read the same, and which differ but name a common class."""
    texts = np.array([caption.strip(" .") for caption in captions])
    named = np.zeros((len(captions), len(CLASS_NAMES)), np.float32)
    for row, caption in enumerate(captions):
        for name in names_in_caption(caption):
            named[row, CLASS_NAMES.index(name)] = 1
    same = torch.from_numpy(texts[:, None] == texts[None, :])
    return same, torch.from_numpy(named @ named.T > 0) & ~same


def _stack(scenes: Sequence[Scene]) -> Tensor:
    return _stacked([scene.pixels for scene in scenes])


def _stacked(pixels: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _domain(index: int, day_share: float = DAY_SHARE) -> Domain:
    """Day mostly, the others in turn; fixed by the index."""
    chance = np.random.default_rng((7, index)).random()
    if chance < day_share:
        return "day"
    others = DOMAINS[1:]
    return others[int((chance - day_share) / (1 - day_share) * len(others)) % len(others)]


def _base_label(name: str) -> int:
    return BASE_NAMES.index(name) if name in BASE_NAMES else -1
