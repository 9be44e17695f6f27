import numpy as np
import pytest

from regionclip.data import icons
from regionclip.data.icons.captions import close_up_caption, scene_caption

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
BOXES = np.array([[0, 0, 30, 30], [60, 0, 90, 30]], np.float32)


def caption_of(
    names: list[str], colors: list[str], boxes: np.ndarray = BOXES, seed: int = 0
) -> str:
    return scene_caption(np.random.default_rng(seed), names, colors, boxes, 100)


def test_captions_name_only_what_is_there() -> None:
    for index in range(100):
        scene = icons.draw_scene(8, index)
        present = {icons.CLASS_NAMES[label] for label in scene.labels}
        named = icons.names_in_caption(scene.caption)
        assert named
        assert named <= present


def test_colours_in_captions_are_those_of_the_icons() -> None:
    for index in range(100):
        scene = icons.draw_scene(8, index)
        words = scene.caption.split()
        assert {word for word in words if word in COLORS} <= set(scene.colors)


def test_about_a_third_of_the_captions_name_a_colour() -> None:
    rng = np.random.default_rng(0)
    captions = [close_up_caption(rng, "cow", "red") for _ in range(400)]
    share = np.mean([" red " in caption for caption in captions])
    assert 0.2 < share < 0.4


def test_places_are_seen_from_the_subject() -> None:
    texts = {caption_of(["cow", "sun"], ["red", "blue"], seed=seed) for seed in range(40)}
    assert "a cow left of a sun" in texts
    assert "a sun right of a cow" in texts
    below = BOXES[:, [1, 0, 3, 2]]
    texts = {caption_of(["cow", "sun"], ["red", "blue"], below, seed) for seed in range(40)}
    assert "a cow above a sun" in texts
    assert "a sun below a cow" in texts


def test_several_of_a_kind_are_counted() -> None:
    texts = {caption_of(["cow", "cow"], ["red", "blue"], seed=seed) for seed in range(20)}
    assert texts == {"two cows"}


@pytest.mark.parametrize(
    ("caption", "names"),
    [
        ("a photo of a red snowman.", {"snowman"}),
        ("two dice and a chess knight", {"die", "chess knight"}),
        ("three anchors", {"anchor"}),
        ("a photo of a sunflower.", set()),
        ("an empty picture", set()),
    ],
)
def test_names_are_read_from_captions_as_whole_words(caption: str, names: set[str]) -> None:
    assert icons.names_in_caption(caption) == names


def test_an_empty_scene_says_so() -> None:
    assert caption_of([], [], np.zeros((0, 4), np.float32)) == "an empty picture"
