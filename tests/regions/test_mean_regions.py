import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from regionclip.regions.embedder import RegionEmbedder
from regionclip.regions.mean_regions import MeanRegions, mean_of_boxes
from regionclip.structures import PreparedImage
from tests.tiny_mean import TINY_MEANS, tiny_mean

BOXES = torch.tensor([[0.0, 0.0, 64.0, 96.0], [10.0, 20.0, 33.0, 90.0], [5.0, 5.0, 5.0, 5.0]])


def image(height: int = 96, width: int = 64) -> PreparedImage:
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    return PreparedImage(pixels, (height, width), "a.jpg")


def normalized(pixels: Tensor, trunk: str) -> Tensor:
    encoder = tiny_mean(trunk)
    mean, std = (torch.tensor(each)[:, None, None] for each in (encoder.mean, encoder.std))
    return ((pixels - mean) / std)[None]


def test_means_are_those_of_torchvisions_bins() -> None:
    own = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(2))
    bins = roi_align(own[None], [BOXES], 14, spatial_scale=1 / 16, sampling_ratio=-1, aligned=True)
    means = mean_of_boxes(own, BOXES, cell=16)
    torch.testing.assert_close(means, bins.mean(dim=(2, 3)))
    assert mean_of_boxes(own, BOXES[:0], cell=16).shape == (0, 5)


@pytest.mark.parametrize("trunk", TINY_MEANS)
def test_boxes_and_masks_give_projected_means(trunk: str) -> None:
    encoder = tiny_mean(trunk)
    embedder = MeanRegions(encoder)
    assert isinstance(embedder, RegionEmbedder)
    view = embedder.view([image(), image(64, 64)]).of(0)
    own = encoder.feature_map(normalized(image().pixels, trunk))[0]
    expected = encoder.encode_means(mean_of_boxes(own, BOXES, cell=encoder.cell))
    torch.testing.assert_close(view.features(BOXES), expected)
    assert view.features(BOXES[:0]).shape == (0, 10)
    masks = torch.ones(1, 96, 64, dtype=torch.bool)
    whole = encoder.encode_image(normalized(image().pixels, trunk))
    torch.testing.assert_close(view.features(BOXES[:1], masks=masks), whole)
    with pytest.raises(NotImplementedError, match="a mask head needs a ResNet's last stage"):
        view.last_stage_cells(BOXES)


def test_masks_of_an_image_that_is_no_whole_number_of_patches() -> None:
    view = MeanRegions(tiny_mean("vit")).view([image(70, 45)]).of(0)
    masks = torch.zeros(2, 70, 45, dtype=torch.bool)
    masks[0, :16, :16] = True
    masks[1, 66:, 40:] = True
    first, beyond = view.features(BOXES[:2], masks=masks)
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    assert first.isfinite().all()
    assert view.features(box).shape == (1, 10)
    # nothing of it was seen: the projection of zeros
    assert beyond.abs().max() == 0
