from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.structures import Detections
from regionclip.visualize import (
    class_color,
    contact_sheet,
    draw_detections,
    regionclip_drawing_rule,
)

GREY = (90, 90, 90)
NAMES = ("cat", "traffic light", "кошка", "猫", "a name that is far too long for the picture " * 3)


def picture(width: int = 640, height: int = 480) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def detections(
    boxes: list[list[float]],
    scores: list[float] | None = None,
    labels: list[int] | None = None,
    masks: torch.Tensor | None = None,
) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes).reshape(count, 4),
        scores=torch.tensor(scores or [0.9] * count),
        labels=torch.tensor(labels or [0] * count, dtype=torch.long),
        class_names=NAMES,
        masks=masks,
    )


def has_color(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """Which pixels have exactly this colour, ``(H, W)``."""
    return (np.asarray(image) == np.array(color)).all(axis=2)


def test_a_box_is_drawn_in_its_class_color_where_it_is() -> None:
    drawn = draw_detections(picture(), detections([[100.0, 200, 300, 400]], labels=[1]))
    colored = has_color(drawn, class_color(1))
    assert colored[200:400, 300].all()
    assert colored[400, 100:300].all()
    assert has_color(drawn, GREY)[210:390, 110:290].all()
    assert has_color(drawn, GREY)[:, 400:].all()


def test_the_picture_given_is_not_drawn_on() -> None:
    image = picture()
    draw_detections(image, detections([[100.0, 200, 300, 400]]))
    assert has_color(image, GREY).all()


def test_a_box_as_large_as_the_picture_shows_all_its_edges() -> None:
    drawn = draw_detections(picture(400, 300), detections([[0.0, 0, 400, 300]]))
    colored = has_color(drawn, class_color(0))
    assert colored[-1].mean() > 0.9
    assert colored[:, -1].mean() > 0.9


def test_classes_have_colors_of_their_own() -> None:
    colors = [np.array(class_color(label)) for label in range(24)]
    assert min(np.abs(one - other).max() for one, other in combinations(colors, 2)) > 20
    assert len({class_color(label) for label in range(200)}) > 190


def test_the_best_box_is_drawn_on_top() -> None:
    boxes = [[100.0, 100, 300, 300], [100.0, 100, 300, 300]]
    drawn = draw_detections(picture(), detections(boxes, [0.9, 0.5], [0, 1]))
    assert has_color(drawn, class_color(0))[150:290, 300].all()


def test_labels_do_not_cover_each_other_while_there_is_room() -> None:
    """Each of the stacked boxes leaves a rectangle of its label's colour and height."""
    boxes = [[200.0, 200, 400, 300]] * 4
    drawn = draw_detections(picture(), detections(boxes, labels=[0, 1, 2, 3]))
    areas = [int(has_color(drawn, class_color(label)).sum()) for label in range(4)]
    alone = [
        int(
            has_color(
                draw_detections(picture(), detections(boxes[:1], labels=[label])), color
            ).sum()
        )
        for label, color in ((label, class_color(label)) for label in range(4))
    ]
    line_pixels = 2 * 2 * (200 + 100)
    for area, own in zip(areas, alone, strict=True):
        assert area > own - 1.5 * line_pixels


def test_labels_stay_inside_the_picture() -> None:
    for corner in ([0.0, 0, 12, 12], [630.0, 470, 640, 480], [0.0, 0, 640, 480]):
        with_label = draw_detections(picture(), detections([corner], labels=[4]))
        assert with_label.size == (640, 480)
        assert has_color(with_label, class_color(4)).sum() > 500


def test_scores_can_be_left_out() -> None:
    found = detections([[100.0, 200, 300, 400]])
    with_score = has_color(draw_detections(picture(), found), class_color(0)).sum()
    without = has_color(draw_detections(picture(), found, show_scores=False), class_color(0)).sum()
    assert without < with_score


@pytest.mark.parametrize(("side", "factor"), [(128, 3), (96, 4), (383, 2), (384, 1), (1333, 1)])
def test_a_small_picture_is_enlarged_by_a_whole_factor(side: int, factor: int) -> None:
    drawn = draw_detections(
        picture(side, side // 2), detections([[10.0, 12, side - 10, side // 2 - 5]])
    )
    assert drawn.size == (side * factor, side // 2 * factor)
    assert has_color(drawn, class_color(0))[20 * factor : 30 * factor, (side - 10) * factor].all()


def test_enlarging_can_be_turned_off() -> None:
    assert draw_detections(picture(20, 30), detections([]), min_display_side=0).size == (20, 30)


def test_masks_tint_their_pixels_also_when_enlarged() -> None:
    masks = torch.zeros(1, 96, 128, dtype=torch.bool)
    masks[0, 50:60, 40:80] = True
    drawn = draw_detections(
        picture(128, 96), detections([[10.0, 20, 110, 90]], labels=[1], masks=masks)
    )
    tinted = ~has_color(drawn, GREY)
    assert tinted[150:180, 120:240].all()
    assert not tinted[150:180, 250:320].any()
    red, green, blue = np.asarray(drawn)[160, 200].tolist()
    mixed = [0.6 * grey + 0.4 * color for grey, color in zip(GREY, class_color(1), strict=True)]
    assert [red, green, blue] == pytest.approx(mixed, abs=1.5)


def test_masks_of_another_size_are_refused() -> None:
    masks = torch.zeros(1, 10, 20, dtype=torch.bool)
    with pytest.raises(ValueError, match="the masks are 20x10 pixels and the image 640x480"):
        draw_detections(picture(), detections([[0.0, 0, 5, 5]], masks=masks))


def test_cyrillic_is_written_and_chinese_needs_another_font() -> None:
    """DejaVu Sans draws the same empty box for every character that it lacks."""
    found = detections([[100.0, 200, 300, 400]])
    drawn = {
        name: draw_detections(
            picture(),
            Detections(found.boxes, found.scores, found.labels, class_names=(name,)),
        ).tobytes()
        for name in ("кошка", "пёсик", "猫", "犬")
    }
    assert drawn["кошка"] != drawn["пёсик"]
    assert drawn["猫"] == drawn["犬"]


def test_a_font_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    font = tmp_path / "mine.ttf"
    font.write_bytes(b"not a font")
    with pytest.raises(ValueError, match=r"cannot read the font .*mine\.ttf"):
        draw_detections(picture(), detections([[0.0, 0, 5, 5]]), font=font)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_any_mode_of_picture_is_drawn_in_rgb(mode: str) -> None:
    drawn = draw_detections(picture().convert(mode), detections([[100.0, 200, 300, 400]]))
    assert drawn.mode == "RGB"
    assert has_color(drawn, class_color(0)).any()


def test_no_detections_leave_the_picture_as_it_is() -> None:
    assert has_color(draw_detections(picture(), detections([])), GREY).all()


def test_boxes_without_area_are_drawn_without_failure() -> None:
    drawn = draw_detections(picture(), detections([[100.0, 200, 100, 200], [50, 60, 50, 90]]))
    assert has_color(drawn, class_color(0)).any()


def test_a_contact_sheet_is_a_grid_in_reading_order() -> None:
    colors = [(10 * index, 0, 0) for index in range(5)]
    sheet = contact_sheet([Image.new("RGB", (60, 40), color) for color in colors], gap=8)
    assert sheet.size == (8 + 3 * 68, 8 + 2 * 48)
    centers = [(38 + 68 * (index % 3), 28 + 48 * (index // 3)) for index in range(5)]
    assert [sheet.getpixel(center) for center in centers] == colors
    assert sheet.getpixel((38 + 2 * 68, 28 + 48)) == (255, 255, 255)


def test_a_contact_sheet_centers_small_pictures_and_shrinks_large_ones() -> None:
    images = [Image.new("RGB", size, "black") for size in ((1280, 720), (100, 100))]
    sheet = contact_sheet(images, columns=2, gap=0)
    assert sheet.size == (1280, 360)
    black = np.asarray(sheet)[:, 640:, 0] == 0
    assert black.sum() == 100 * 100
    assert black[130:230, 270:370].all()


def test_a_contact_sheet_has_the_columns_asked_for() -> None:
    images = [Image.new("L", (10, 20))] * 3
    assert contact_sheet(images, columns=1, gap=0).size == (10, 60)
    assert contact_sheet(images, columns=9, gap=0).size == (30, 20)


def test_an_impossible_contact_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least one image, got none"):
        contact_sheet([])
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        contact_sheet([picture()], columns=0)


def test_the_drawing_rule_counts_before_it_filters() -> None:
    large, other, small = [0.0, 0, 90, 90], [50.0, 0, 150, 100], [0.0, 0, 89, 90]
    found = detections(
        [small, large, large, other, large],
        scores=[0.9, 0.04, 0.8, 0.7, 0.6],
        labels=[0, 1, 2, 0, 3],
    )
    # Row 2 is a duplicate of row 1, which goes later for its score; row 4 is past the first four.
    kept = regionclip_drawing_rule(found, max_boxes=4)
    assert kept.scores.tolist() == pytest.approx([0.7])
    # 90 x 90 = 8100 is large enough, 89 x 90 is not.
    assert len(regionclip_drawing_rule(found, min_score=0.0)) == 2
    assert len(regionclip_drawing_rule(found, min_score=0.0, min_area=0.0)) == 3


def test_the_drawing_rule_looks_at_25_rows_and_takes_none() -> None:
    boxes = [[0.0, 0, 100, 100 + row] for row in range(40)]
    assert len(regionclip_drawing_rule(detections(boxes))) == 25
    assert len(regionclip_drawing_rule(detections([]))) == 0
