import torch

from regionclip.pairs import CaptionQueue


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, 3)


def test_a_batch_is_followed_by_captions_of_before_newest_first() -> None:
    queue = CaptionQueue(3, width=3)
    vectors, ids = queue.before(rows(1, 2), torch.tensor([1, 2]))
    assert ids.tolist() == [1, 2]
    queue.push(rows(1, 2), torch.tensor([1, 2]))
    queue.push(rows(3, 4), torch.tensor([3, 4]))
    assert len(queue) == 3
    vectors, ids = queue.before(rows(5), torch.tensor([5]))
    assert ids.tolist() == [5, 3, 4, 1]
    assert vectors[:, 0].tolist() == [5, 3, 4, 1]


def test_what_waits_has_no_gradient() -> None:
    queue = CaptionQueue(4, width=3)
    queue.push(rows(1).clone().requires_grad_(), torch.tensor([1]))
    assert not queue.vectors.requires_grad


def test_a_queue_of_no_length_keeps_nothing() -> None:
    queue = CaptionQueue(0, width=3)
    queue.push(rows(1), torch.tensor([1]))
    assert len(queue) == 0
    assert queue.before(rows(2), torch.tensor([2]))[1].tolist() == [2]


def test_a_queue_goes_on_from_its_state() -> None:
    queue, other = CaptionQueue(3, width=3), CaptionQueue(3, width=3)
    queue.push(rows(1, 2), torch.tensor([1, 2]))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(rows(3, 4), torch.tensor([3, 4]))
    assert other.image_ids.tolist() == queue.image_ids.tolist() == [3, 4, 1]
    assert other.vectors.equal(queue.vectors)
