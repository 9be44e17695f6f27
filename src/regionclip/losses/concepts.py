"""Regions learn the concepts that a teacher saw in them: all of its opinion, or its choice."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .loss_sum import LossSum, counted
from .over_processes import sum_of_all


def concept_distillation_loss(
    logits: Float[Tensor, "K C"], teacher_scores: Float[Tensor, "K C"]
) -> LossSum:
    """How far the student's opinion of each region is from the teacher's, over all concepts.

    Args:
        logits: The student's, one column per concept of the pool.
        teacher_scores: Rows sum to 1; constants.

    Returns:
        The sum of Kullback-Leibler divergences ``KL(teacher || student)``, and how many.

    Source:
        RegionCLIP (arXiv:2112.09106), eq. 3; there ``log(softmax(x))``, which can be minus infinity
        where ``log_softmax`` is not.
    """
    log_scores = logits.float().log_softmax(dim=1)
    own = torch.xlogy(teacher_scores, teacher_scores).sum()
    return counted(own - (teacher_scores * log_scores).sum(), len(logits))


def concept_contrastive_loss(logits: Float[Tensor, "K C"], targets: Int[Tensor, " K"]) -> LossSum:
    """Each region against the concepts of all regions of the batch, its own among them.

    A concept that several regions have counts as often, among what attracts and what repels. All
    regions are those of all processes: the paper's loss of one batch, however it is divided. (The
    original compares within each process.)

    A region's similarity to another region's concept is its logit for that concept, so the K x K
    matrix of the paper is never made: columns of ``logits``, weighted by how often each concept
    occurs, say the same.

    Args:
        logits: The student's, one column per concept of the pool.
        targets: The concept of each region.

    Returns:
        The sum over regions, and their number.

    Source:
        RegionCLIP (arXiv:2112.09106), eq. 2, with the label matrix of microsoft/RegionCLIP@4b8513b:
        ``-log sum_j L_ij softmax_j(M_i)``, ``M_ij`` the logit of region i for the concept of region
        j, ``L_ij`` whether i and j have the same.
    """
    counts = logits.new_zeros(logits.shape[1]).float()
    counts = sum_of_all(counts.index_add(0, targets, counts.new_ones(len(targets))))
    occurs = logits.float() + counts.log()  # minus infinity where a concept does not occur
    attracted = occurs.gather(1, targets[:, None])[:, 0]
    return counted((occurs.logsumexp(dim=1) - attracted).sum(), len(logits))
