import torch
from torch import nn

from regionclip.methods.fvit.heads import BoxHead, MaskHead, make_rpn_head


def box_head(*, has_projection: bool) -> BoxHead:
    torch.manual_seed(0)
    return BoxHead(4, width=10, embed_dim=6, has_projection=has_projection, scale=50.0).eval()


def test_without_a_projection_an_embedding_has_no_negative_number() -> None:
    cells = torch.randn(5, 4, 7, 7)
    answers = box_head(has_projection=False)(cells)
    assert answers.embeddings.shape == (5, 10)
    assert answers.deltas.shape == (5, 4)
    assert (answers.embeddings >= 0).all()
    assert (answers.embeddings == 0).any()
    projected = box_head(has_projection=True)(cells).embeddings
    assert projected.shape == (5, 6)
    assert (projected < 0).any()


def test_no_region_is_fine_and_gives_every_parameter_a_gradient_while_training() -> None:
    for head, cells in (
        (box_head(has_projection=True).train(), torch.zeros(0, 4, 7, 7)),
        (MaskHead(4).train(), torch.zeros(0, 4, 14, 14)),
    ):
        before = [each.clone() for each in head.buffers()]
        out = head(cells)
        parts = (out.embeddings, out.deltas) if isinstance(head, BoxHead) else (out,)
        torch.stack([part.sum() for part in parts]).sum().backward()
        for name, parameter in head.named_parameters():
            if name != "similarity_scale":
                assert parameter.grad is not None, name
                assert not parameter.grad.any(), name
        assert all(map(torch.equal, before, head.buffers()))
        assert head.training
        assert all(each.training for each in head.modules())


def test_masks_are_twice_the_cells() -> None:
    assert MaskHead(4).eval()(torch.randn(3, 4, 14, 14)).shape == (3, 1, 28, 28)


def test_a_proposal_head_with_norms_has_no_biases_before_them() -> None:
    plain, normed = (make_rpn_head(4, 3, norm=norm) for norm in (None, nn.BatchNorm2d))
    assert "conv.0.0.bias" in plain.state_dict()
    assert "conv.0.0.bias" not in normed.state_dict()
    assert "conv.1.1.running_mean" in normed.state_dict()
    for head in (plain, normed.eval()):
        logits, deltas = head([torch.randn(1, 4, 6, 5)])
        assert logits[0].shape == (1, 3, 6, 5)
        assert deltas[0].shape == (1, 12, 6, 5)
