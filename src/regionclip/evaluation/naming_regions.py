"""Given regions and what a model calls them, three ways: boxes and masks on a map, and crops.

Each image is looked at in the upper left of a black square, as CLIPSelf's and CLIM's towers are
trained to.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from regionclip.data.datasets import Sample
from regionclip.data.images import read_image
from regionclip.data.letterbox import fit_at_corner
from regionclip.data.segment_maps import mask_extents, segment_masks
from regionclip.data.transforms import longest_size, normalized, pixels_of, size_by_rule
from regionclip.detect import Detector
from regionclip.encoders.crop_encoder import CropEncoder
from regionclip.encoders.dense import DenseEncoder
from regionclip.pairs.crops import cut_crops, enlarged
from regionclip.regions.inputs import listed_boxes_input
from regionclip.scoring.cosine import class_logits
from regionclip.structures import Detections, ImageSource, PreparedImage

from .class_means import NOT_NAMED, asked_rows, guesses_per_region
from .finding import OtherwisePrepared, Pair, Search, nothing_found

THING_MARGIN = 1.5
"""A thing's crop is this much wider and higher than its box; stuff's is not.

Source: wusize/CLIPSelf@1c7fe9c.
"""
CROPS_AT_ONCE = 64
"""Of an image, so that memory does not depend on how many there are."""


def in_a_square(detector: Detector, image: ImageSource, name: str) -> PreparedImage:
    """The image in the upper left of a black square; boxes scale as those of any prepared image.

    It is as large as when the model detects.
    """
    picture, parts = read_image(image, name=name), detector.parts
    seen = size_by_rule(
        picture.size,
        shortest=parts.shortest_side,
        longest=parts.longest_side,
        rule=parts.size_rule,
    )
    longest = max(picture.size)
    pixels = pixels_of(fit_at_corner(picture, max(seen)))
    return PreparedImage(pixels, (longest, longest), name)


def as_it_is(detector: Detector, image: ImageSource, name: str) -> PreparedImage:
    """The image in its own size, to cut pictures from."""
    picture = read_image(image, name=name)
    return PreparedImage(pixels_of(picture), (picture.height, picture.width), name)


@torch.inference_mode()
def _boxes_named(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """The best classes of each box, from the model's own way of looking at regions."""
    return [_named(search, pair, box_vectors) for pair in pairs]


@torch.inference_mode()
def _masks_named(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """The best classes of each mask.

    Raises:
        ValueError: The data set has no masks of segments, or the model's regions take none.
    """
    return [_named(search, pair, mask_vectors) for pair in pairs]


@torch.inference_mode()
def _crops_named(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """The best classes of each box, seen as a picture of its own by the whole image tower.

    Raises:
        ValueError: The model's image tower takes no whole pictures.
    """
    return [_named(search, pair, crop_vectors) for pair in pairs]


name_boxes = OtherwisePrepared(_boxes_named, in_a_square)
"""The best classes of each box, from the model's own way of looking at regions."""
name_masks = OtherwisePrepared(_masks_named, in_a_square)
"""The best classes of each mask; only of data sets and models that have masks."""
name_crops = OtherwisePrepared(_crops_named, as_it_is)
"""The best classes of each box, seen as a picture of its own by the whole image tower."""


def box_vectors(search: Search, sample: Sample, square: PreparedImage) -> Float[Tensor, "R D"]:
    """Vectors of an image's regions, cut from the map of the square."""
    view = search.detector.parts.regions.view([square])
    return view.of(0).features(listed_boxes_input(asked_boxes(sample), square))


def mask_vectors(search: Search, sample: Sample, square: PreparedImage) -> Float[Tensor, "R D"]:
    """Vectors of an image's masks, pooled from the map of the square."""
    encoder = _dense_tower(search)
    masks = segment_masks(sample)[asked_rows(sample)]
    cells = masks_on_grid(masks, square.size_hw[0] // encoder.cell)
    # one value per cell, so that whoever asks how much of a cell is covered hears all or nothing
    pixels = cells.repeat_interleave(encoder.cell, 1).repeat_interleave(encoder.cell, 2)
    view = search.detector.parts.regions.view([square])
    boxes = listed_boxes_input(asked_boxes(sample), square)
    return view.of(0).features(boxes, masks=pixels)


def crop_vectors(search: Search, sample: Sample, whole: PreparedImage) -> Float[Tensor, "R D"]:
    """Vectors of an image's regions as pictures of their own, letter-boxed."""
    encoder = _crop_tower(search)
    picture = read_image(whole.pixels, name=whole.name)
    boxes = asked_boxes(sample)
    with_margin = enlarged(boxes, THING_MARGIN, whole.size_hw)
    is_stuff = stuff_rows(sample)[asked_rows(sample)]
    seen = torch.where(is_stuff[:, None], boxes, with_margin)
    vectors = []
    for own in seen.split(CROPS_AT_ONCE):
        crops = cut_crops(picture, own, side=encoder.image_size_hw[0]).to(encoder.device)
        vectors.append(encoder.encode_image(normalized(crops, mean=encoder.mean, std=encoder.std)))
    return torch.cat(vectors)


def asked_boxes(sample: Sample) -> Float[Tensor, "R 4"]:
    """Boxes of the objects to name, ``xyxy`` in pixels of the image.

    Things have the annotation's; stuff, where it has a mask, reaches from the mask's first to its
    last pixel.
    """
    boxes, rows = sample.objects.boxes, asked_rows(sample)
    is_stuff = stuff_rows(sample)
    if sample.segment_map is not None and bool(is_stuff[rows].any()):
        boxes = torch.where(is_stuff[:, None], mask_extents(segment_masks(sample)), boxes)
    return boxes[rows]


def stuff_rows(sample: Sample) -> Bool[Tensor, " N"]:
    """Which of the annotated objects are stuff; none where nobody says."""
    is_stuff = sample.objects.is_stuff
    return torch.zeros(len(sample.objects), dtype=torch.bool) if is_stuff is None else is_stuff


def masks_on_grid(masks: Bool[Tensor, "N H W"], cells: int) -> Bool[Tensor, "N g g"]:
    """Masks in the upper left of a square grid; a cell counts where anything is left of a mask.

    Args:
        masks: Over an image.
        cells: Rows and columns of the grid.

    Source: wusize/CLIPSelf@1c7fe9c: bicubic, the longest side to the grid's, then ``> 0``.
    """
    height, width = longest_size((int(masks.shape[1]), int(masks.shape[2])), cells)
    grid = torch.zeros(len(masks), cells, cells, dtype=torch.bool)
    if len(masks):
        resized = resize(
            masks[:, None].float(),
            [height, width],
            interpolation=InterpolationMode.BICUBIC,
            # torchvision smooths first since 0.17; the published figures are from before
            antialias=False,
        )
        grid[:, :height, :width] = resized[:, 0] > 0
    return grid


def _named(
    search: Search, pair: Pair, vectors_of: Callable[[Search, Sample, PreparedImage], Tensor]
) -> Detections:
    """Block after block, each asked region's best classes; scores are cosines in [0, 1].

    All classes are equally far from a vector of zeros: its guesses score :data:`NOT_NAMED`.
    """
    sample, image = pair
    search.names.check_encoder(search.detector.encoder_id)
    rows = asked_rows(sample)
    if len(rows) == 0:
        return nothing_found(search.names.names)
    vectors = vectors_of(search, sample, image)
    cosines = class_logits(vectors, search.names.embeddings.to(vectors.device), temperature=1.0)
    count = guesses_per_region(len(search.names))
    best = cosines.cpu().topk(count, dim=1)
    boxes = sample.objects.boxes[rows].repeat_interleave(count, dim=0)
    scores = (best.values + 1) / 2
    scores[~vectors.cpu().any(dim=1)] = NOT_NAMED
    return Detections(boxes, scores.flatten(), best.indices.flatten(), search.names.names)


def _dense_tower(search: Search) -> DenseEncoder:
    tower = search.detector.parts.dense_tower
    if tower is None:
        raise ValueError(
            "mask-macc needs a model whose image tower gives a map of vectors: openai:ViT-B-16, an "
            "F-ViT on a transformer, openai:RN50 with --regions dense; region-macc takes any"
        )
    return tower


def _crop_tower(search: Search) -> CropEncoder:
    tower = search.detector.parts.crop_tower
    if tower is None:
        raise ValueError(
            "crop-macc needs a model with the image tower of a CLIP, which looks at each box as a "
            "picture of its own, and this one has none; region-macc takes any"
        )
    height, width = tower.image_size_hw
    if height != width:
        raise ValueError(
            f"crop-macc looks at squares, and this image tower at pictures of {width} x {height}; "
            "region-macc takes any"
        )
    return tower
