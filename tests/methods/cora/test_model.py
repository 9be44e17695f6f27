from dataclasses import replace

import pytest
import torch
from torch import Tensor

from regionclip.methods.cora import VARIANTS
from regionclip.methods.cora.config import CoraConfig
from regionclip.methods.cora.model import Cora, cell_boxes
from regionclip.methods.cora.pre_matching import match_anchors
from regionclip.regions.valid_cells import valid_sizes_wh
from tests.cora_files import TINY_CORA, class_rows, picture, telling_rows, tiny_cora


@pytest.mark.parametrize(
    ("variant", "count"), [("ov-coco-rn50", 12_088_388), ("ov-coco-rn50x4", 12_104_772)]
)
def test_as_many_numbers_learn_as_in_the_original(variant: str, count: int) -> None:
    with torch.device("meta"):
        model = Cora(VARIANTS[variant])
    assert sum(each.numel() for each in model.parameters() if each.requires_grad) == count
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    assert not any(name.startswith("encoder.") for name in learning)


def test_the_towers_stay_in_eval_mode_while_the_localiser_trains() -> None:
    model = tiny_cora().train()
    assert model.training
    assert model.decoder.layers[0].training
    assert not any(module.training for module in model.encoder.modules())


def test_maps_and_region_vectors_carry_no_gradient() -> None:
    model = tiny_cora().requires_grad_(True)
    maps = model.maps([picture()])
    boxes = torch.full((1, 2, 4), 0.5)
    for each in (maps.layer3, model.anchor_features(maps), model.region_features(maps, boxes)):
        assert not each.requires_grad


def test_queries_come_in_order_of_class_and_then_of_anchor() -> None:
    model = tiny_cora()
    found = model([picture(), picture(seed=1)], telling_rows(model, 5))
    assert found.boxes.shape == (3, 2, 40, 4)
    assert found.objectness.shape == (3, 2, 40)
    assert len(found.classes.unique()) > 1
    for classes, anchors in zip(found.classes, found.anchor_index, strict=True):
        pairs = list(zip(classes.tolist(), anchors.tolist(), strict=True))
        assert pairs == sorted(pairs)
        assert sorted(anchors.tolist()) == list(range(40))


def test_boxes_depend_on_what_is_looked_for_and_not_on_its_length() -> None:
    model, images = tiny_cora(), [picture()]
    found = model(images, class_rows(5))
    longer = model(images, 7 * class_rows(5))
    torch.testing.assert_close(longer.boxes, found.boxes, rtol=1e-4, atol=1e-5)
    other = model(images, class_rows(5, seed=1))
    assert not torch.allclose(sorted_by_anchor(other), sorted_by_anchor(found), atol=1e-3)


def sorted_by_anchor(found: object) -> Tensor:
    index = found.anchor_index[0].argsort()  # type: ignore[attr-defined]
    return found.boxes[-1, 0][index]  # type: ignore[attr-defined]


@pytest.mark.parametrize("num_classes", [1, 2, 130])
def test_any_number_of_classes_can_be_looked_for(num_classes: int) -> None:
    found = tiny_cora()([picture()], class_rows(num_classes))
    assert found.boxes.isfinite().all()
    assert int(found.classes.max()) < num_classes


def test_several_sets_of_classes_for_the_same_maps_are_as_one_by_one() -> None:
    model = tiny_cora()
    maps, rows = model.maps([picture(), picture(seed=1)]), class_rows(6)
    features = model.anchor_features(maps)
    halves = [match_anchors(features, rows * mask[:, None]) for mask in (MASK, ~MASK)]
    together = model.localize(maps, torch.cat(halves), rows)
    for copy, classes in enumerate(halves):
        alone = model.localize(maps, classes, rows)
        own = slice(2 * copy, 2 * copy + 2)
        torch.testing.assert_close(together.boxes[:, own], alone.boxes, rtol=1e-4, atol=1e-5)
        assert torch.equal(together.classes[own], alone.classes)


MASK = torch.tensor([True, False, True, False, False, True])


def test_sizes_of_maps_leave_the_padding_out() -> None:
    padding = torch.ones(2, 4, 5, dtype=torch.bool)
    padding[0] = False
    padding[1, :2, :3] = False
    assert valid_sizes_wh(padding).tolist() == [[5, 4], [3, 2]]
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0]]]).repeat(2, 1, 1)
    assert cell_boxes(boxes, padding).tolist() == [[[0, 0, 5, 4]], [[0, 0, 3, 2]]]


def test_the_smaller_image_of_a_batch_has_its_padding_marked() -> None:
    maps = tiny_cora().maps([picture(96, 128), picture(64, 96, seed=1)])
    assert maps.layer3.shape == (2, 128, 6, 8)
    assert not maps.layer3_padding[0].any()
    assert valid_sizes_wh(maps.layer3_padding).tolist() == [[8, 6], [6, 4]]
    assert valid_sizes_wh(maps.layer4_padding).tolist() == [[4, 3], [3, 2]]


def test_queries_may_be_told_nothing_of_their_class() -> None:
    untold = tiny_cora(replace(TINY_CORA, query_content="none"))
    assert not list(untold.text_proj.parameters())
    for model, is_told in ((tiny_cora(), True), (untold, False)):
        maps = model.maps([picture(96, 128)])
        classes = torch.arange(40)[None] % 2
        first, second = (
            model.localize(maps, classes, rows) for rows in (class_rows(2), class_rows(2, seed=1))
        )
        assert torch.equal(first.classes, second.classes)
        assert torch.equal(first.boxes, second.boxes) != is_told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
        ({"decoder_layers": 0}, "must be at least 1, got 2 and 0"),
        ({"width": 48}, r"width must be a multiple of 4 \* heads = 32, got 48"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"text_length": 17}, r"text_length must be in \(2, 16\].*got 17"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"novel_factor": 0.0}, "novel_factor must be positive"),
        ({"shortest_side": 200}, r"shortest_side must be in \(0, longest_side = 160\], got 200"),
        ({"base_classes": "coco48"}, "give base_classes or own_base_classes, not both"),
        ({"pseudo_classes": ("dog",)}, "'dog' is among own_base_classes too"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_CORA, **change)  # type: ignore[arg-type]


def test_variants_are_those_of_the_paper() -> None:
    assert set(VARIANTS) == {f"ov-{d}-{s}" for d in ("coco", "lvis") for s in ("rn50", "rn50x4")}
    assert VARIANTS["ov-lvis-rn50x4"].selection.max_detections == 300
    assert isinstance(VARIANTS["ov-coco-rn50"], CoraConfig)
