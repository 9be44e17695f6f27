import torch

from regionclip.regions import RegionHead
from regionclip.regions.embedder import BatchView, RegionEmbedder, RegionView
from regionclip.regions.map_regions import MapRegions
from regionclip.structures import PreparedImage
from tests.tiny_clip import TINY, tiny_clip

BOXES = torch.tensor([[0.0, 0.0, 96.0, 64.0], [10.0, 8.0, 60.0, 50.0]])


def image(seed: int, height: int = 64, width: int = 96) -> PreparedImage:
    generator = torch.Generator().manual_seed(seed)
    return PreparedImage(torch.rand(3, height, width, generator=generator), (height, width), "x")


def test_map_regions_are_a_region_embedder() -> None:
    regions = MapRegions(tiny_clip())
    batch = regions.view([image(0)])
    assert isinstance(regions, RegionEmbedder)
    assert isinstance(batch, BatchView)
    assert isinstance(batch.of(0), RegionView)


def test_vectors_equal_the_unfolded_tower_followed_by_the_region_head() -> None:
    encoder = tiny_clip()
    found = MapRegions(encoder).view([image(0)]).of(0).features(BOXES)
    head = RegionHead(encoder.visual)
    maps = head.lift(encoder.feature_map(encoder.prepare([image(0).pixels])))
    torch.testing.assert_close(found, head(maps, 0, BOXES), rtol=1e-4, atol=1e-5)


def test_images_of_one_batch_keep_their_own_regions() -> None:
    regions = MapRegions(tiny_clip())
    together = regions.view([image(0), image(1)])
    for index in range(2):
        alone = regions.view([image(index)]).of(0).features(BOXES)
        found = together.of(index).features(BOXES)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_padding_below_and_right_leaves_far_regions_alone() -> None:
    regions, box = MapRegions(tiny_clip()), torch.tensor([[0.0, 0.0, 20.0, 20.0]])
    alone = regions.view([image(0, 128, 128)]).of(0).features(box)
    padded = regions.view([image(0, 128, 128), image(1, 160, 192)]).of(0).features(box)
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_building_map_regions_leaves_the_encoder_as_it_was() -> None:
    encoder = tiny_clip()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    MapRegions(encoder, dtype=torch.bfloat16).view([image(0)]).of(0).features(BOXES)
    after = encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_bfloat16_vectors_point_the_same_way() -> None:
    exact = MapRegions(tiny_clip()).view([image(0)]).of(0).features(BOXES)
    rough = MapRegions(tiny_clip(), dtype=torch.bfloat16).view([image(0)]).of(0).features(BOXES)
    assert torch.cosine_similarity(exact, rough).min() > 0.999


def test_last_stage_cells_have_the_pools_grid() -> None:
    cells = MapRegions(tiny_clip()).view([image(0)]).of(0).last_stage_cells(BOXES)
    assert cells.shape == (2, 32 * TINY.width, TINY.pool_grid, TINY.pool_grid)


def test_zero_boxes_give_zero_rows() -> None:
    found = MapRegions(tiny_clip()).view([image(0)]).of(0).features(BOXES[:0])
    assert found.shape == (0, TINY.embed_dim)
