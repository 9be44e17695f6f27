import torch

from regionclip.regions.embedder import RegionEmbedder
from regionclip.regions.map_regions import MapRegions
from regionclip.regions.valid_cells import ShareMapRegions, map_padding, map_scales
from regionclip.structures import PreparedImage
from tests.tiny_clip import tiny_clip

BOXES = torch.tensor([[0.0, 0.0, 60.0, 60.0], [10.0, 20.0, 50.0, 63.0]])


def image_of(height: int, width: int) -> PreparedImage:
    generator = torch.Generator().manual_seed(height)
    return PreparedImage(torch.rand(3, height, width, generator=generator), (height, width), "x")


def test_boxes_lie_where_16_pixels_to_a_cell_put_them_if_sides_are_whole_cells() -> None:
    encoder, image = tiny_clip(), image_of(64, 96)
    shares, strides = ShareMapRegions(encoder), MapRegions(encoder)
    assert isinstance(shares, RegionEmbedder)
    found = shares.view([image]).of(0).features(BOXES)
    assert torch.equal(found, strides.view([image]).of(0).features(BOXES))


def test_boxes_keep_their_share_of_the_sides_elsewhere() -> None:
    encoder = tiny_clip()
    # 72 and 104 pixels are 4.5 and 6.5 cells; the map has 4 rows and 6 columns
    image = image_of(72, 104)
    view = ShareMapRegions(encoder).view([image]).of(0)
    scale = torch.tensor([96 / 104, 64 / 72]).repeat(2)
    expected = MapRegions(encoder).view([image]).of(0)
    torch.testing.assert_close(view.features(BOXES), expected.features(BOXES * scale))
    cells = view.last_stage_cells(BOXES)
    torch.testing.assert_close(cells, expected.last_stage_cells(BOXES * scale))
    assert not torch.allclose(view.features(BOXES), expected.features(BOXES), atol=1e-4)
    assert view.features(torch.zeros(0, 4)).shape == (0, encoder.spec.embed_dim)


def test_cells_of_padding_do_not_count() -> None:
    images = [image_of(64, 96), image_of(48, 80)]
    padding = map_padding([each.pixels for each in images], torch.zeros(2, 3, 64, 96), (4, 6))
    assert padding.sum(dim=(1, 2)).tolist() == [0, 24 - 3 * 5]
    assert map_scales(images, padding).tolist() == [[1.0] * 4, [1.0] * 4]
    narrow = [images[0], image_of(40, 72)]
    padding = map_padding([each.pixels for each in narrow], torch.zeros(2, 3, 64, 96), (4, 6))
    # a cell belongs to the image if its first pixel does: 3 rows of 40 pixels, 5 columns of 72
    expected = [1.0] * 4, [80 / 72, 48 / 40] * 2
    torch.testing.assert_close(map_scales(narrow, padding), torch.tensor(expected))
