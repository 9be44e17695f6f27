import pytest
import torch

from regionclip.data.icons import CLASS_NAMES, draw_scene
from regionclip.demo.heat_map import CELLS, cell_means, heat_map, windows_of
from regionclip.demo.inputs import MAX_PHRASE, InputError
from regionclip.demo.pictures import Picture
from regionclip.demo.sessions import EXAMPLE_SEED, EXAMPLE_SIDE
from regionclip.detect import Detector
from regionclip.structures import PreparedImage


def test_a_cell_takes_the_mean_of_the_windows_around_it_weighted_by_nearness() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 1.0], [2.0, 0.0, 6.0, 1.0]])
    found = cell_means(boxes, torch.tensor([0.0, 1.0]), (1, 6))
    # nearness at cells 0.5 .. 5.5: 1/4, 3/4, 3/4, 1/4, 0, 0 and 0, 0, 1/4, 3/4, 3/4, 1/4
    assert found[0].tolist() == pytest.approx([0, 0, 0.25, 0.75, 1, 1])


def test_cells_outside_all_windows_take_the_mean() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert cell_means(boxes, torch.tensor([0.2, 0.4]), (2, 2)).flatten().tolist() == pytest.approx(
        [0.3, 0.3, 0.3, 0.3]
    )
    assert cell_means(torch.zeros(0, 4), torch.zeros(0), (2, 3)).tolist() == [[0, 0, 0]] * 2


def test_the_map_is_warmer_on_what_the_phrase_names(icons: Detector, scenes: list[Picture]) -> None:
    scene = draw_scene(EXAMPLE_SEED, 0, size=EXAMPLE_SIDE)
    steps: list[float] = []
    found = heat_map(
        icons, scenes[0], CLASS_NAMES[scene.labels[0]], step=lambda share, _: steps.append(share)
    )
    assert found.cells.shape == (CELLS, CELLS)
    assert steps[0] == 0
    assert steps == sorted(steps)
    x0, y0, x1, y1 = (round(each * CELLS / EXAMPLE_SIDE) for each in scene.boxes[0].tolist())
    inside = found.cells[y0:y1, x0:x1].mean()
    assert inside > found.cells.mean() + found.cells.std()


@pytest.mark.parametrize("size_hw", [(320, 320), (320, 480), (50, 1000), (1333, 67)])
def test_a_picture_of_any_shape_takes_a_few_hundred_windows(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    windows = windows_of(PreparedImage(torch.zeros(3, height, width), size_hw, "a"))
    assert 200 <= len(windows) <= 400
    assert windows.min() == 0
    assert windows[:, 2:].amax(0).tolist() == [width, height]


def test_no_phrase_is_refused(icons: Detector, scenes: list[Picture]) -> None:
    with pytest.raises(InputError, match="no phrase to look for"):
        heat_map(icons, scenes[0], "  ")
    with pytest.raises(InputError, match="no phrase to look for"):
        heat_map(icons, scenes[0], None)


def test_a_phrase_longer_than_the_page_takes_is_refused(
    icons: Detector, scenes: list[Picture]
) -> None:
    with pytest.raises(InputError, match=r'^"A phrase" has 501 characters, .* reads 500 at most'):
        heat_map(icons, scenes[0], "x" * (MAX_PHRASE + 1))
