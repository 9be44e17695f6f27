import torch
from benchmarks.cora import num_unlike, plain_anchor_vectors

from regionclip.regions.map_attention import pool_boxes_on_map
from regionclip.structures import Detections
from tests.cora_files import tiny_cora


def test_the_plain_way_to_anchors_vectors_is_the_same_mathematics() -> None:
    pool = tiny_cora().encoder.visual.attnpool
    layer4 = torch.randn(1, 256, 4, 6, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0, 6, 4], [1, 1, 2, 3], [4, 2, 8, 9]])
    found = plain_anchor_vectors(layer4, boxes, pool)
    torch.testing.assert_close(
        found, pool_boxes_on_map(layer4[0], boxes, pool), rtol=1e-4, atol=1e-5
    )


def test_detections_of_another_class_score_or_box_have_no_partner() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])

    def with_(boxes: torch.Tensor, first_score: float, label: int) -> Detections:
        scores = torch.tensor([first_score, 0.5])
        return Detections(boxes, scores, torch.tensor([label, 1]), ("a", "b"))

    expected = with_(boxes, 0.9, 0)
    assert num_unlike(with_(boxes, 0.9, 0), expected) == 0
    assert num_unlike(with_(boxes, 0.8, 0), expected) == 1
    assert num_unlike(with_(boxes, 0.9, 1), expected) == 1
    assert num_unlike(with_(boxes + 3, 0.9, 0), expected) == 2
