import copy
from typing import Any

import pytest
import torch

from regionclip.evaluation import evaluate_detections
from regionclip.structures import Detections

NAMES = ("cat", "dog", "cow")


def ground_truth(boxes_by_image: list[list[tuple[str, list[float]]]]) -> dict[str, Any]:
    """A COCO dictionary from ``(name, xyxy)`` pairs; cat and dog are base, cow is novel."""
    categories = [
        {"id": 10, "name": "cat", "split": "base"},
        {"id": 20, "name": "dog", "split": "base"},
        {"id": 30, "name": "cow", "split": "novel"},
    ]
    ids = {each["name"]: each["id"] for each in categories}
    annotations = []
    for image_id, rows in enumerate(boxes_by_image, start=100):
        for name, (x0, y0, x1, y1) in rows:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[name],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    images = [
        {"id": image_id, "file_name": f"{image_id}.png", "width": 100, "height": 100}
        for image_id, _ in enumerate(boxes_by_image, start=100)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def detections(*rows: tuple[str, list[float], float], names: tuple[str, ...] = NAMES) -> Detections:
    return Detections(
        boxes=torch.tensor([box for _, box, _ in rows]).reshape(-1, 4),
        scores=torch.tensor([score for *_, score in rows]),
        labels=torch.tensor([names.index(name) for name, *_ in rows], dtype=torch.long),
        class_names=names,
    )


BOX = [10.0, 10.0, 30.0, 30.0]
ELSEWHERE = [60.0, 60.0, 90.0, 90.0]


def test_finding_every_box_gives_one() -> None:
    truth = ground_truth([[("cat", BOX), ("cow", ELSEWHERE)], [("dog", BOX)]])
    found = [detections(("cat", BOX, 0.9), ("cow", ELSEWHERE, 0.8)), detections(("dog", BOX, 0.7))]
    report = evaluate_detections(found, truth)
    assert [each.ap for each in report.classes] == [1.0, 1.0, 1.0]
    assert report.mean_ap() == report.mean_ap("base") == report.mean_ap("novel") == 1.0


def test_average_precision_of_a_case_worked_out_by_hand() -> None:
    # Two cats; by score: a hit, a miss, a hit. Precision is 1 up to recall 1/2 (51 of the 101
    # recall points) and 2/3 beyond (the other 50).
    truth = ground_truth([[("cat", BOX)], [("cat", BOX)]])
    found = [
        detections(("cat", BOX, 0.9), ("cat", ELSEWHERE, 0.8)),
        detections(("cat", BOX, 0.7)),
    ]
    report = evaluate_detections(found, truth)
    assert report.classes[0].ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_counts_as_found_from_the_given_overlap_on() -> None:
    # overlap 20 x 12 of 20 x 20: IoU 0.6
    truth = ground_truth([[("cat", BOX)]])
    found = [detections(("cat", [10.0, 10.0, 30.0, 22.0], 0.9))]
    assert evaluate_detections(found, truth, iou=0.5).mean_ap() == 1.0
    assert evaluate_detections(found, truth, iou=0.7).mean_ap() == 0.0


def test_a_second_detection_of_the_same_box_is_a_miss() -> None:
    truth = ground_truth([[("cat", BOX)], [("cat", BOX)]])
    found = [detections(("cat", BOX, 0.9), ("cat", BOX, 0.8)), detections(("cat", BOX, 0.7))]
    assert evaluate_detections(found, truth).classes[0].ap == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_right_box_under_a_wrong_name_finds_nothing() -> None:
    truth = ground_truth([[("cat", BOX)]])
    report = evaluate_detections([detections(("dog", BOX, 0.9))], truth)
    assert report.classes[0].ap == 0.0
    assert report.classes[1].ap is None


def test_no_detections_at_all_give_zero() -> None:
    truth = ground_truth([[("cat", BOX)], []])
    report = evaluate_detections([detections(), detections()], truth)
    assert report.mean_ap() == 0.0
    assert report.num_images == 2


def test_classes_without_boxes_stay_out_of_the_mean() -> None:
    truth = ground_truth([[("cat", BOX)]])
    report = evaluate_detections([detections(("cat", BOX, 0.9), ("cow", BOX, 0.9))], truth)
    assert [each.name for each in report.of_split()] == ["cat"]
    assert report.mean_ap() == 1.0
    assert report.mean_ap("novel") is None


def test_a_data_set_without_any_box_has_no_mean() -> None:
    report = evaluate_detections([detections(("cat", BOX, 0.9))], ground_truth([[]]))
    assert report.mean_ap() is None


def test_base_and_novel_classes_are_averaged_apart() -> None:
    truth = ground_truth([[("cat", BOX), ("dog", ELSEWHERE)], [("cow", BOX)]])
    found = [detections(("cat", BOX, 0.9)), detections(("cow", BOX, 0.9))]
    report = evaluate_detections(found, truth)
    assert report.splits == ("base", "novel")
    assert report.mean_ap("base") == 0.5
    assert report.mean_ap("novel") == 1.0
    assert report.mean_ap() == pytest.approx(2 / 3)


def test_vocabulary_order_does_not_matter() -> None:
    truth = ground_truth([[("cat", BOX)], [("cow", BOX)]])
    turned = ("cow", "cat", "dog")
    found = [
        detections(("cat", BOX, 0.9), names=turned),
        detections(("cow", BOX, 0.9), names=turned),
    ]
    assert evaluate_detections(found, truth).mean_ap() == 1.0


def test_evaluation_prints_nothing_and_leaves_the_ground_truth_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = ground_truth([[("cat", BOX)]])
    before = copy.deepcopy(truth)
    evaluate_detections([detections(("cat", BOX, 0.9))], truth)
    assert truth == before
    output = capsys.readouterr()
    assert output.out == output.err == ""


def test_report_as_plain_data_names_its_protocol() -> None:
    truth = ground_truth([[("cat", BOX)]])
    content = evaluate_detections([detections(("cat", BOX, 0.9))], truth).to_dict()
    assert content["mean_ap"] == {"all": 1.0, "base": 1.0, "novel": None}
    assert content["classes"][0] == {"name": "cat", "split": "base", "boxes": 1, "ap": 1.0}
    assert "IoU 0.5" in content["protocol"]


def test_another_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="detections of 1 images for 2 images"):
        evaluate_detections([detections()], ground_truth([[], []]))


def test_a_vocabulary_that_lacks_a_category_is_refused() -> None:
    short = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), ("cat", "dog"))
    with pytest.raises(ValueError, match="not asked for 'cow'"):
        evaluate_detections([short], ground_truth([[]]))


def test_a_vocabulary_with_a_name_too_many_is_refused() -> None:
    names = (*NAMES, "aardvark")
    with pytest.raises(ValueError, match="data set lacks 'aardvark'"):
        evaluate_detections([detections(names=names)], ground_truth([[]]))


@pytest.mark.parametrize("iou", [0.0, 1.5])
def test_an_overlap_out_of_range_is_refused(iou: float) -> None:
    with pytest.raises(ValueError, match=r"iou must be in \(0, 1\]"):
        evaluate_detections([], ground_truth([]), iou=iou)
