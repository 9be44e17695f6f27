import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from regionclip.concepts.mentions import ClassMentions
from regionclip.data.augmentation import Augmentation
from regionclip.data.caption_loading import LeftOutCounts
from regionclip.data.captions import CaptionedDataset
from regionclip.data.collages import Alone, Collage
from regionclip.data.datasets import Dataset, Sample
from regionclip.data.sampling import Loading
from regionclip.data.tile_loading import tiled_batches
from regionclip.pairs import image_id
from regionclip.structures import TiledBatch

NAMES = ("cat", "dog", "bus", "cup", "kite")
COLLAGE = Collage(sides=(2,), cell=32, pixels=64)
LOADING = Loading(
    augmentation=COLLAGE, batch_size=2, part_size=2, num_parts=5, num_workers=0, seed=3
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> CaptionedDataset:
    """Five images, each of one grey."""
    folder = tmp_path_factory.mktemp("photos")
    samples = []
    for number, name in enumerate(NAMES):
        path = folder / f"{number}.png"
        Image.new("RGB", (40, 30), (50 * number,) * 3).save(path)
        captions = (f"a {name}", f"one {name} there")
        samples.append(Sample(path.name, path, number, captions=captions))
    return CaptionedDataset(Dataset("photos", (), tuple(samples)))


def assert_equal(ones: Sequence[TiledBatch], others: Sequence[TiledBatch]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.seeds == other.seeds
        for own, its in zip(one.images, other.images, strict=True):
            assert torch.equal(own, its)
        for own, its in zip(one.tiles, other.tiles, strict=True):
            assert torch.equal(own.boxes, its.boxes)
            assert own.captions == its.captions


def test_each_tile_has_its_own_caption_tag_and_number(images: CaptionedDataset) -> None:
    tags = ClassMentions(("kite", "cup", "bus", "dog", "cat"))
    num_tiles = 0
    for batch in tiled_batches(images, LOADING, tags=tags)(0):
        for pixels, tiles in zip(batch.images, batch.tiles, strict=True):
            assert tiles.side == 2
            for box, caption, own_tags, own_id in zip(
                tiles.boxes.long().tolist(),
                tiles.captions,
                tiles.tags,
                tiles.image_ids.tolist(),
                strict=True,
            ):
                x0, y0, x1, y1 = box
                number = round(float(pixels[0, y0 + 3 : y1 - 3, x0 + 3 : x1 - 3].mean()) * 255 / 50)
                assert NAMES[number] in caption.split()
                assert own_tags == (4 - number,)
                assert own_id == image_id(f"{number}.png")
                num_tiles += 1
    assert num_tiles == 40


def test_a_mosaic_holds_its_image_once_and_captions_vary(images: CaptionedDataset) -> None:
    drawn = [
        tiles
        for batch in tiled_batches(images, replace(LOADING, num_parts=20))(0)
        for tiles in batch.tiles
    ]
    assert {caption.split()[0] for tiles in drawn for caption in tiles.captions} == {"a", "one"}
    assert any(len(set(tiles.image_ids.tolist())) < 4 for tiles in drawn)


def test_processes_workers_and_resuming_change_nothing(images: CaptionedDataset) -> None:
    whole = list(tiled_batches(images, LOADING)(0))
    assert_equal(list(tiled_batches(images, LOADING)(3)), whole[3:])
    assert_equal(list(tiled_batches(images, replace(LOADING, num_workers=2))(0)), whole)
    second = replace(LOADING, part_size=1, process_index=1, num_processes=2)
    halves = list(tiled_batches(images, second)(0))
    for half, batch in zip(halves, whole, strict=True):
        assert half.seeds == batch.seeds[1:]
        assert torch.equal(half.images[0], batch.images[1])


def test_images_alone_have_one_tile(images: CaptionedDataset) -> None:
    alone = Alone(augmentation=Augmentation(shortest_sides=(20,), longest_side=40))
    loading = replace(LOADING, augmentation=alone, num_parts=1)
    (batch,) = tiled_batches(images, loading)(0)
    for pixels, tiles in zip(batch.images, batch.tiles, strict=True):
        assert len(tiles) == tiles.side == 1
        assert tiles.boxes.tolist() == [[0, 0, pixels.shape[2], pixels.shape[1]]]
        assert tiles.tags == ((),)


def test_too_few_images_for_a_mosaic_stay_alone(images: CaptionedDataset) -> None:
    loading = replace(LOADING, augmentation=replace(COLLAGE, sides=(3,)), num_parts=1)
    (batch,) = tiled_batches(images, loading)(0)
    assert [tiles.side for tiles in batch.tiles] == [1, 1]


def test_an_image_that_cannot_be_read_is_counted_and_another_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        if number:
            Image.new("RGB", (40, 30 if number > 1 else 8)).save(path)
        else:
            path.write_bytes(b"no image")
        samples.append(Sample(path.name, path, number, captions=("a cat",)))
    counts = LeftOutCounts()
    source = CaptionedDataset(Dataset("photos", (), tuple(samples)))
    with caplog.at_level(logging.WARNING):
        found = list(tiled_batches(source, LOADING, left_out=counts)(0))
    wanted = {image_id("2.png"), image_id("3.png")}
    assert {
        own for batch in found for tiles in batch.tiles for own in tiles.image_ids.tolist()
    } == (wanted)
    assert set(counts.by_reason) == {"unreadable image", "tiny image"}
    only_damaged = CaptionedDataset(Dataset("photos", (), tuple(samples[:1])))
    with pytest.raises(ValueError, match="photos: 1 samples one after another cannot be used"):
        next(iter(tiled_batches(only_damaged, LOADING)(0)))


def test_captions_that_are_too_long_are_counted(images: CaptionedDataset) -> None:
    counts = LeftOutCounts()

    def num_cut(captions: Sequence[str]) -> int:
        return sum(each.startswith("one") for each in captions)

    batches = tiled_batches(images, LOADING, left_out=counts, num_cut=num_cut)
    captions = [each for batch in batches(0) for own in batch.tiles for each in own.captions]
    assert counts.num_cut == num_cut(captions)
    assert 0 < counts.num_cut < len(captions)
