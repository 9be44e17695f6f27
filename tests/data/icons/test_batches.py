import numpy as np
import pytest
import torch

from regionclip.data import icons
from regionclip.data.icons import batches as batches_module
from regionclip.data.icons.batches import BoxBatches, CaptionBatches, caption_relations


def captions(**changes: object) -> CaptionBatches:
    options = {"seed": 0, "num_batches": 4, "batch_size": 6, "image_sizes": (48, 64)}
    return CaptionBatches(**(options | {"scene_share": 0.5} | changes))  # type: ignore[arg-type]


def test_a_batch_is_fixed_by_seed_and_step() -> None:
    first, again = captions()[2], captions()[2]
    assert torch.equal(first.pixels, again.pixels)
    assert first.captions == again.captions
    assert not torch.equal(first.pixels, captions(seed=1)[2].pixels)


def test_steps_take_turns_in_image_sizes() -> None:
    assert [captions()[step].pixels.shape[-1] for step in range(4)] == [48, 64, 48, 64]


def test_images_that_come_again_come_once_a_turn_and_are_drawn_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def draw(seed: int, index: int, **options: object) -> icons.Scene:
        drawn.append(index)
        return icons.draw_close_up(seed, index, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(batches_module, "draw_close_up", draw)
    stream = captions(image_sizes=(32,), scene_share=0.0, num_images=9)
    texts = [caption for step in range(3) for caption in stream[step].captions]
    assert sorted(drawn) == list(range(9))
    assert sorted(texts[:9]) == sorted(texts[9:])
    assert texts[:9] != texts[9:]
    again = captions(image_sizes=(32,), scene_share=0.0, num_images=9)[2]
    assert torch.equal(again.pixels, stream[2].pixels)


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="5 different images are fewer than a batch of 6"):
        captions(num_images=5)


def test_captions_that_read_the_same_belong_together() -> None:
    same, ignored = caption_relations(["a cow", "a cow.", "a red cow", "a sun"])
    assert same.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert ignored.int().tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_box_batches_show_and_label_base_classes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(*args: object, **options: object) -> icons.Scene:
        scene = icons.draw_scene(*args, **options)  # type: ignore[arg-type]
        drawn.append(scene)
        return scene

    monkeypatch.setattr(batches_module, "draw_scene", draw)
    stream = BoxBatches(seed=5, num_batches=10, batch_size=8)
    labels = torch.cat([stream[step].labels for step in range(10)])
    names = [icons.CLASS_NAMES[label] for scene in drawn for label in scene.labels]
    assert len(drawn) == 80
    assert set(names) <= set(icons.BASE_NAMES)
    assert [icons.BASE_NAMES[label] for label in labels.tolist()] == names


def test_boxes_of_a_batch_know_their_scene() -> None:
    batch = BoxBatches(seed=5, num_batches=1, batch_size=3)[0]
    assert batch.pixels.shape == (3, 3, icons.SCENE_SIZE, icons.SCENE_SIZE)
    assert len(batch.boxes) == len(batch.labels) == len(batch.image_index)
    assert set(batch.image_index.tolist()) == {0, 1, 2}


def test_a_batch_of_captions_carries_neither_boxes_nor_labels() -> None:
    fields = set(captions()[0].__dataclass_fields__)
    assert fields == {"pixels", "captions", "is_positive", "is_ignored"}


def test_novel_names_occur_in_captions() -> None:
    named = set()
    stream = captions(num_batches=40)
    for step in range(40):
        for caption in stream[step].captions:
            named |= icons.names_in_caption(caption)
    assert set(icons.NOVEL_NAMES) <= named
    assert np.intersect1d(list(named), icons.BASE_NAMES).size > 30
