import numpy as np
import pytest

from regionclip.data import icons
from regionclip.data.icons.glyphs import glyph_mask
from regionclip.data.icons.scenes import MAX_DEGREES, _Canvas


def test_seed_and_index_fix_every_pixel() -> None:
    first, again = icons.draw_scene(3, 5), icons.draw_scene(3, 5)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.boxes, again.boxes)
    assert first.caption == again.caption


@pytest.mark.parametrize("other", [{"seed": 4}, {"index": 6}, {"split": "train"}])
def test_another_seed_index_or_split_gives_another_scene(other: dict) -> None:
    asked = {"seed": 3, "index": 5, "split": "test"} | other
    assert not np.array_equal(icons.draw_scene(3, 5).pixels, icons.draw_scene(**asked).pixels)


def test_boxes_lie_inside_and_hold_the_number_of_icons_promised() -> None:
    for index in range(20):
        scene = icons.draw_scene(0, index, size=128)
        assert scene.pixels.shape == (128, 128, 3)
        assert 1 <= len(scene.boxes) == len(scene.labels) == len(scene.colors) <= 5
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= 128).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2] >= 4).all()


def test_a_box_is_tight_around_the_pixels_that_show() -> None:
    canvas = _Canvas(np.zeros((100, 100, 3), np.uint8))
    mask = glyph_mask("heart").resize((40, 30))
    assert canvas.paint(mask, 80, 10, (255, 255, 255), min_visible=0.3)
    rows, columns = np.nonzero(np.asarray(canvas.image)[..., 0] >= 100)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert canvas.visible_boxes().tolist() == [expected]
    assert expected[2] == 100  # cut by the border


def test_an_icon_covered_by_another_keeps_the_box_of_what_shows() -> None:
    canvas = _Canvas(np.zeros((100, 100, 3), np.uint8))
    square = glyph_mask("die").resize((40, 40)).point(lambda _: 255)
    assert canvas.paint(square, 10, 10, (255, 0, 0), min_visible=0.7)
    assert canvas.paint(square, 40, 10, (0, 255, 0), min_visible=0.7)
    assert canvas.visible_boxes().tolist() == [[10, 10, 40, 50], [40, 10, 80, 50]]
    assert not canvas.paint(square, 30, 10, (0, 0, 255), min_visible=0.7)


def test_only_the_asked_classes_are_drawn() -> None:
    labels = {
        int(label)
        for index in range(30)
        for label in icons.draw_scene(1, index, class_names=("anchor", "cow")).labels
    }
    assert {icons.CLASS_NAMES[label] for label in labels} == {"anchor", "cow"}


@pytest.mark.parametrize("domain", icons.DOMAINS)
def test_weather_changes_the_light_and_nothing_else(domain: icons.Domain) -> None:
    day, other = icons.draw_scene(2, 0), icons.draw_scene(2, 0, domain=domain)
    assert np.array_equal(day.boxes, other.boxes)
    assert np.array_equal(day.pixels, other.pixels) == (domain == "day")
    if "night" in domain:
        assert other.pixels.mean() < day.pixels.mean()


def test_a_close_up_shows_the_icon_of_its_caption_large() -> None:
    for index in range(20):
        close_up = icons.draw_close_up(0, index, size=96)
        name = icons.CLASS_NAMES[close_up.labels[0]]
        assert icons.names_in_caption(close_up.caption) == {name}
        sides = close_up.boxes[0, 2:] - close_up.boxes[0, :2]
        assert sides.max() >= 0.4 * 96


def test_a_scene_larger_than_its_textures_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 512 pixels a side, got 600"):
        icons.draw_scene(0, 0, size=600)


def test_icons_are_turned_both_ways_but_never_upside_down() -> None:
    assert 0 < MAX_DEGREES < 90
