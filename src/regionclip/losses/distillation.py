"""A student's vectors turned towards a teacher's."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .loss_sum import LossSum, counted


def cosine_distillation_loss(
    student: Float[Tensor, "R D"], teacher: Float[Tensor, "R D"]
) -> LossSum:
    """One minus the cosine of each pair; lengths do not matter.

    Args:
        student: With gradients; a vector of zeros has the cosine 0.
        teacher: Constants.

    Returns:
        The sum over regions, in [0, 2] each, and their number.

    Source:
        CLIPSelf (arXiv:2310.01403), eq. 1.
    """
    with torch.autocast(student.device.type, enabled=False):
        cosines = F.cosine_similarity(student.float(), teacher.detach().float(), dim=1)
        return counted((1 - cosines).sum(), len(student))
