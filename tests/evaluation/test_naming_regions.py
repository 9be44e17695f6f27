from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from regionclip.data.datasets import Dataset, Sample
from regionclip.data.images import read_image
from regionclip.data.letterbox import fit_at_corner, letterbox
from regionclip.data.readers import open_dataset
from regionclip.data.segment_maps import segment_masks
from regionclip.data.transforms import normalized, pixels_of
from regionclip.detect import Detector, DetectorParts
from regionclip.encoders.vit import ClipVit
from regionclip.evaluation.finding import Search, detect_dataset, preparation_of
from regionclip.evaluation.naming_regions import (
    asked_boxes,
    box_vectors,
    crop_vectors,
    in_a_square,
    mask_vectors,
    masks_on_grid,
    name_boxes,
    name_masks,
)
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.regions.dense_regions import DenseRegions, pool_boxes
from regionclip.structures import ImageSource
from regionclip.vocabulary import Vocabulary
from tests.data.made import made_dataset
from tests.painted_segments import write_segments
from tests.tiny_dense import tiny_dense

SIDE = 64


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("segments")
    return open_dataset(write_segments(folder), image_root=folder / "images")


@pytest.fixture(scope="module")
def search(dataset: Dataset) -> Search:
    encoder = tiny_dense().requires_grad_(False)
    regions = DenseRegions(encoder)
    parts = DetectorParts(
        encoder=encoder,
        regions=regions,
        longest_side=SIDE,
        size_rule="longest",
        dense_tower=encoder,
        crop_tower=encoder,
    )
    detector = Detector(parts)
    rows = torch.randn(len(dataset.categories), 10, generator=torch.Generator().manual_seed(0))
    words = Vocabulary(dataset.class_names, rows, (), detector.encoder_id)
    return Search(detector, words, detector.defaults)


def encoder_of(search: Search) -> ClipVit:
    encoder = search.detector.parts.encoder
    assert isinstance(encoder, ClipVit)
    return encoder


def vectors_of(protocol: str, search: Search, sample: Sample) -> torch.Tensor:
    vectors = {"region-macc": box_vectors, "mask-macc": mask_vectors, "crop-macc": crop_vectors}
    prepare = preparation_of(PROTOCOLS[protocol].find, search.detector)
    prepared = prepare(sample.image, sample.name)
    return vectors[protocol](search, sample, prepared)


def dense_map(search: Search, dataset: Dataset) -> torch.Tensor:
    encoder = encoder_of(search)
    pixels = pixels_of(fit_at_corner(read_image(dataset[0].image), SIDE))[None]
    return encoder.dense_features(normalized(pixels, mean=encoder.mean, std=encoder.std))


def test_boxes_are_cut_from_the_map_of_the_square(dataset: Dataset, search: Search) -> None:
    sample = dataset[0]
    scaled = asked_boxes(sample) * (SIDE / 80)
    expected = pool_boxes(dense_map(search, dataset), [scaled], cell=8)
    square = in_a_square(search.detector, sample.image, sample.name)
    torch.testing.assert_close(box_vectors(search, sample, square), expected)
    assert square.size_hw == (SIDE, SIDE)
    assert square.scale_xyxy.tolist() == [80 / SIDE] * 4
    # models that look at the shorter side see things as large as when they detect
    parts = replace(search.detector.parts, size_rule="detectron2", shortest_side=30)
    square = in_a_square(Detector(parts), sample.image, sample.name)
    assert square.size_hw == (40, 40)
    assert Detector(parts).prepare(sample.image).size_hw == (30, 40)


def test_masks_are_means_over_their_cells(dataset: Dataset, search: Search) -> None:
    cells = dense_map(search, dataset)[0].flatten(1).T
    found = vectors_of("mask-macc", search, dataset[0])
    # the painted segments: a square of 40 x 40 pixels of 80, and a band of 80 x 10 below
    grid = torch.zeros(2, 8, 8, dtype=torch.bool)
    grid[0, 0:4, 0:4] = True
    grid[1, 5:6, :] = True
    expected = torch.stack([cells[own.flatten()].mean(dim=0) for own in grid])
    torch.testing.assert_close(found, expected)


def test_crops_are_whole_pictures_and_things_have_a_margin(
    dataset: Dataset, search: Search
) -> None:
    encoder, picture = encoder_of(search), read_image(dataset[0].image)
    # the thing (0, 0, 40, 40) grows to 60 x 60 about (20, 20) and is clipped; stuff does not
    crops = [letterbox(picture.crop(box), 32) for box in ((0, 0, 50, 50), (0, 50, 79, 59))]
    pixels = torch.stack([pixels_of(each) for each in crops])
    expected = encoder.encode_image(normalized(pixels, mean=encoder.mean, std=encoder.std))
    torch.testing.assert_close(vectors_of("crop-macc", search, dataset[0]), expected)


@pytest.mark.parametrize("protocol", ["region-macc", "mask-macc", "crop-macc"])
def test_the_best_classes_of_each_region_are_judged(
    dataset: Dataset, search: Search, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = PROTOCOLS[protocol]
    opened: list[object] = []

    def counted(image: ImageSource, **given: Any) -> Image.Image:
        opened.append(image)
        return read_image(image, **given)

    for module in ("naming_regions", "finding"):
        name = f"regionclip.evaluation.{module}.read_image"
        monkeypatch.setattr(name, counted, raising=False)
    found = list(
        detect_dataset(
            search.detector,
            dataset,
            search.vocabulary,
            find=rules.find,
            num_workers=1,
        )
    )
    # each file is read once
    assert [each for each in opened if isinstance(each, Path)] == [each.image for each in dataset]
    assert [len(each) for each in found] == [2 * 3, 0]
    own = F.normalize(vectors_of(protocol, search, dataset[0]), dim=1)
    cosines = own @ F.normalize(search.names.embeddings, dim=1).T
    order = cosines.argsort(dim=1, descending=True)
    assert found[0].labels.tolist() == order.flatten().tolist()
    report = rules.evaluate(dataset, found)
    assert report.protocol == protocol
    is_right = order[:, 0] == dataset[0].objects.labels
    assert report.metrics["macc1_thing"] == float(is_right[0])
    assert report.metrics["macc1_stuff"] == float(is_right[1])
    assert report.metrics["macc5"] == 1


def test_masks_are_reduced_to_cells_that_they_touch() -> None:
    masks = torch.zeros(2, 40, 20, dtype=torch.bool)
    masks[0, 10:20, 0:10] = True
    grid = masks_on_grid(masks, 4)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1, 0] = True
    assert torch.equal(grid[0], expected)
    assert not grid[1].any()
    assert masks_on_grid(masks[:0], 4).shape == (0, 4, 4)


def test_a_mask_that_covers_no_cell_is_not_named_and_counted(
    search: Search, tmp_path: Path
) -> None:
    path = write_segments(tmp_path / "thin")
    segment_map = path.parent / "segments" / "0.png"
    colors = np.array(Image.open(segment_map))
    colors[3:40, 0:40] = 0  # of the thing, three rows of pixels are left, of ten in a cell
    Image.fromarray(colors).save(segment_map)
    thin = open_dataset(path, image_root=path.parent / "images")
    grid = masks_on_grid(segment_masks(thin[0]), 8)
    assert grid.flatten(1).any(dim=1).tolist() == [False, True]
    rules = PROTOCOLS["mask-macc"]
    found = list(detect_dataset(search.detector, thin, search.vocabulary, find=rules.find))
    report = rules.evaluate(thin, found)
    # three names are all there are, so that any order of them has the right one
    assert report.metrics["macc5_thing"] == 0
    assert report.metrics["macc5_stuff"] == 1
    assert report.classes[0].metrics["top5"] == 0
    assert len(report.notes) == 1
    assert report.notes[0].startswith("1 of the 2 regions cover no cell of the map")
    boxes = PROTOCOLS["region-macc"]
    found = list(detect_dataset(search.detector, thin, search.vocabulary, find=boxes.find))
    report = boxes.evaluate(thin, found)
    assert (report.metrics["macc5"], report.notes) == (1, ())


def test_what_cannot_be_named_so_is_refused(
    dataset: Dataset, search: Search, tmp_path: Path
) -> None:
    plain = made_dataset([[0]], folder=tmp_path)
    image = search.detector.prepare(plain[0].image, "0.png")
    one = replace(
        search,
        vocabulary=Vocabulary(plain.class_names, torch.ones(1, 10), (), search.detector.encoder_id),
    )
    assert len(name_boxes(one, [(plain[0], image)])[0]) == 1
    with pytest.raises(ValueError, match="comes without masks of its segments"):
        name_masks(one, [(plain[0], image)])
    words = replace(search.detector.parts, dense_tower=None, crop_tower=None)
    other = replace(search, detector=Detector(words))
    with pytest.raises(ValueError, match=r"map of vectors: .* openai:RN50 with --regions dense"):
        vectors_of("mask-macc", other, dataset[0])
    with pytest.raises(ValueError, match="crop-macc needs a model with the image tower of a CLIP"):
        vectors_of("crop-macc", other, dataset[0])
    oblong = tiny_dense()
    oblong.image_size_hw = (32, 48)
    words = replace(search.detector.parts, crop_tower=oblong)
    other = replace(search, detector=Detector(words))
    with pytest.raises(ValueError, match=r"looks at squares, and this image tower at .* 48 x 32"):
        vectors_of("crop-macc", other, dataset[0])
