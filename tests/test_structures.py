import json

import pytest
import torch
from PIL import Image

from regionclip.structures import Detections, PreparedImage, Proposals

CLASS_NAMES = ("cat", "dog", "traffic light")


def three_rows(**extra: object) -> Detections:
    """A cat and a dog in one box, and another dog."""
    return Detections(
        boxes=torch.tensor([[10.0, 20, 110, 70], [10, 20, 110, 70], [0, 0, 5.5, 8]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        labels=torch.tensor([0, 1, 1]),
        class_names=CLASS_NAMES,
        **extra,  # type: ignore[arg-type]
    )


def no_rows(**extra: object) -> Detections:
    return Detections(
        boxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long),
        class_names=CLASS_NAMES,
        **extra,  # type: ignore[arg-type]
    )


def with_everything() -> Detections:
    masks = torch.zeros(3, 80, 120, dtype=torch.bool)
    masks[2, :8, :5] = True
    return three_rows(
        objectness=torch.tensor([0.9, 0.8, 0.7]),
        features=torch.arange(12.0).reshape(3, 4),
        masks=masks,
    )


def test_prepared_image_scales_its_boxes_to_original_pixels() -> None:
    image = PreparedImage(torch.zeros(3, 800, 1199), original_size_hw=(400, 600), name="a.jpg")
    assert image.size_hw == (800, 1199)
    whole = torch.tensor([0.0, 0, 1199, 800])
    torch.testing.assert_close(whole * image.scale_xyxy, torch.tensor([0.0, 0, 600, 400]))


def test_length_is_the_number_of_rows() -> None:
    assert len(Proposals(torch.zeros(0, 4))) == 0
    assert len(Proposals(torch.zeros(7, 4), torch.zeros(7))) == 7
    assert len(no_rows()) == 0
    assert len(three_rows()) == 3


def test_selected_proposals_keep_all_that_belongs_to_them() -> None:
    boxes = torch.arange(12.0).reshape(3, 4)
    proposals = Proposals(boxes, torch.tensor([3.0, 2, 1]), torch.tensor([[5.0], [6], [7]]))
    for rows in (torch.tensor([2, 0]), torch.tensor([True, False, True])):
        own = proposals.select(rows)
        order = rows if rows.dtype != torch.bool else torch.tensor([0, 2])
        assert torch.equal(own.boxes, boxes[order])
        assert own.objectness is not None
        assert own.objectness.tolist() == [3.0 - row for row in order.tolist()]
        assert own.features is not None
        assert own.features[:, 0].tolist() == [5.0 + row for row in order.tolist()]
    assert len(proposals.select(torch.arange(0))) == 0
    bare = Proposals(boxes).select(torch.tensor([1]))
    assert bare.objectness is None
    assert bare.features is None


def test_proposals_go_to_a_device_with_all_that_belongs_to_them() -> None:
    proposals = Proposals(torch.zeros(2, 4), torch.zeros(2), torch.zeros(2, 3)).to(
        torch.device("meta")
    )
    assert {proposals.boxes.device.type, *_devices(proposals)} == {"meta"}


def _devices(proposals: Proposals) -> set[str]:
    parts = (proposals.objectness, proposals.features)
    return {"missing" if each is None else each.device.type for each in parts}


def test_names_follow_labels() -> None:
    assert three_rows().names == ("cat", "dog", "dog")
    assert no_rows().names == ()


@pytest.mark.parametrize(
    ("rows", "scores"),
    [
        ([2, 0], [0.25, 0.75]),
        (torch.tensor([2, 0]), [0.25, 0.75]),
        ([False, True, True], [0.5, 0.25]),
        (torch.tensor([False, True, True]), [0.5, 0.25]),
        ([], []),
        (torch.tensor([False, False, False]), []),
    ],
)
def test_select_takes_indices_in_their_order_or_a_mask(
    rows: torch.Tensor | list[int], scores: list[float]
) -> None:
    assert three_rows().select(rows).scores.tolist() == scores


def test_select_takes_the_same_rows_of_every_field() -> None:
    found = with_everything().select([2, 1])
    assert found.boxes.tolist() == [[0, 0, 5.5, 8], [10, 20, 110, 70]]
    assert found.labels.tolist() == [1, 1]
    assert found.class_names == CLASS_NAMES
    assert found.objectness is not None
    torch.testing.assert_close(found.objectness, torch.tensor([0.7, 0.8]))
    assert found.features is not None
    assert found.features.tolist() == [[8, 9, 10, 11], [4, 5, 6, 7]]
    assert found.masks is not None
    assert found.masks.sum(dim=(1, 2)).tolist() == [40, 0]


def test_select_keeps_the_image_and_leaves_absent_fields_absent() -> None:
    found = three_rows(image="street.jpg").select([1])
    assert found.image == "street.jpg"
    assert (found.objectness, found.features, found.masks) == (None, None, None)


@pytest.mark.parametrize("rows", [[], torch.zeros(0, dtype=torch.bool)])
def test_select_of_zero_rows_gives_zero_rows(rows: torch.Tensor | list[int]) -> None:
    found = no_rows(features=torch.zeros(0, 4)).select(rows)
    assert len(found) == 0
    assert found.features is not None
    assert found.features.shape == (0, 4)


def test_unique_boxes_keeps_the_first_class_of_each_box() -> None:
    found = three_rows().unique_boxes()
    assert found.names == ("cat", "dog")
    assert found.scores.tolist() == [0.75, 0.25]


def test_unique_boxes_changes_nothing_the_second_time() -> None:
    once = three_rows().unique_boxes()
    assert once.unique_boxes().boxes.tolist() == once.boxes.tolist()
    assert len(no_rows().unique_boxes()) == 0


def test_to_dict_can_be_written_as_json() -> None:
    rows = three_rows(objectness=torch.tensor([1.0, 0.5, 0.25])).to_dict()
    assert json.loads(json.dumps(rows)) == rows
    assert rows[1] == {
        "box": [10.0, 20.0, 110.0, 70.0],
        "score": 0.5,
        "label": 1,
        "name": "dog",
        "objectness": 0.5,
    }


def test_to_dict_says_none_where_there_is_no_objectness() -> None:
    assert [row["objectness"] for row in three_rows().to_dict()] == [None, None, None]
    assert no_rows().to_dict() == []


def test_to_coco_gives_corner_and_size_and_ids_from_one() -> None:
    rows = three_rows().to_coco(17)
    assert rows[0] == {
        "image_id": 17,
        "category_id": 1,
        "bbox": [10.0, 20.0, 100.0, 50.0],
        "score": 0.75,
    }
    assert json.loads(json.dumps(rows)) == rows


def test_to_coco_uses_the_data_sets_ids_where_given() -> None:
    ids = [row["category_id"] for row in three_rows().to_coco("a", category_ids=[17, 18, 10])]
    assert ids == [17, 18, 18]
    assert no_rows().to_coco("a", category_ids=[17, 18, 10]) == []


def test_to_coco_writes_masks_as_run_lengths() -> None:
    # columns first: 5 empty, 2 full, 5 empty; the fourth count is written as the difference to the
    # second
    mask = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    rows = three_rows(masks=torch.stack([mask, ~mask, mask])).to_coco(17)
    assert [row["segmentation"] for row in rows] == [
        {"size": [4, 3], "counts": "525"},
        {"size": [4, 3], "counts": "0520"},
        {"size": [4, 3], "counts": "525"},
    ]
    assert json.loads(json.dumps(rows)) == rows


def test_to_supervision_carries_names_and_masks() -> None:
    rows = with_everything().to_supervision()
    assert rows.xyxy.tolist() == with_everything().boxes.tolist()
    assert rows.confidence is not None
    assert rows.confidence.tolist() == [0.75, 0.5, 0.25]
    assert rows.class_id is not None
    assert rows.class_id.tolist() == [0, 1, 1]
    assert list(rows.data["class_name"]) == ["cat", "dog", "dog"]
    assert rows.mask is not None
    assert rows.mask.sum(axis=(1, 2)).tolist() == [0, 0, 40]


@pytest.mark.parametrize("masks", [None, torch.zeros(0, 8, 9, dtype=torch.bool)])
def test_to_supervision_takes_zero_rows(masks: torch.Tensor | None) -> None:
    assert len(no_rows(masks=masks).to_supervision()) == 0


def test_save_without_an_image_says_what_to_do_instead() -> None:
    with pytest.raises(ValueError, match=r"carry no image.*draw_detections\(image, detections\)"):
        three_rows().save("out.png")


def test_save_draws_rows_of_at_least_the_score_asked_for(tmp_path) -> None:
    Image.new("RGB", (400, 300), "gray").save(tmp_path / "in.png")
    found = three_rows(image=tmp_path / "in.png")
    found.save(tmp_path / "all.png")
    found.save(tmp_path / "none.png", min_score=0.8)
    with Image.open(tmp_path / "all.png") as drawn, Image.open(tmp_path / "none.png") as bare:
        assert drawn.getcolors() != bare.getcolors()
        assert bare.getcolors() == [(400 * 300, (128, 128, 128))]
