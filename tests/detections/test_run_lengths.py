import pytest
import torch

from regionclip.detections.run_lengths import decode_masks, encode_masks, mask_areas


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[pixel == "#" for pixel in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # columns first: 2 empty pixels, 3 full, 1 empty; each count is a character from "0" on
        ((".##", ".#."), "231"),
        # 0 empty, then 1 each; from the fourth count on, the difference to two counts before
        (("#.#.",), "01100"),
        # 0 and 35 = 1 * 32 + 3: the low five bits with a sixth for "more", then the rest
        (("#####",) * 7, "0S1"),
    ],
)
def test_masks_are_encoded_as_coco_does(rows: tuple[str, ...], expected: str) -> None:
    assert encode_masks(mask(*rows)[None]) == [expected]


def test_decoding_gives_the_masks_back() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 37, 53, generator=generator) > 0.6
    masks[1], masks[2] = False, True
    counts = encode_masks(masks)
    assert torch.equal(decode_masks(counts, (37, 53)), masks)
    assert mask_areas(counts, (37, 53)) == masks.sum(dim=(1, 2)).tolist()


def test_no_masks_are_fine() -> None:
    assert encode_masks(torch.zeros(0, 4, 6, dtype=torch.bool)) == []
    assert decode_masks([], (4, 6)).shape == (0, 4, 6)
    assert mask_areas([], (4, 6)) == []


@pytest.mark.parametrize("counts", ["xx", "!!!!!", "", "0S1"])
def test_a_text_that_is_no_mask_of_the_size_is_refused(counts: str) -> None:
    good = encode_masks(torch.zeros(1, 4, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask 1 is damaged"):
        decode_masks([*good, counts], (4, 6))
