"""Batch norms with fixed statistics, folded into the convolutions before them."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(module: nn.Module) -> None:
    """Multiply each batch norm into the convolution before it, in place; for inference only.

    The network computes the same up to rounding, without a pass over memory per norm, and has no
    running statistics left that training mode could change. Convolutions gain a bias; norms become
    ``nn.Identity``.

    Relies on a norm being registered right after its convolution, as in torchvision's and
    open_clip's ResNets and torchvision's ``Conv2dNormActivation``.

    Raises:
        ValueError: The module is in training mode, where norms are not constant.
    """
    if module.training:
        raise ValueError("batch norms can be folded in eval mode only; call .eval() first")
    for parent in list(module.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
