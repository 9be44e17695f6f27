"""Embeddings of the classes that a training run knows."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def unit_class_rows(
    class_embeddings: Float[Tensor, "C D"], *, width: int, device: torch.device
) -> Float[Tensor, "C D"]:
    """Rows of length one in float32, without gradients.

    Args:
        class_embeddings: One row per class, of any length.
        width: Numbers of a region's vector.
        device: Where they are needed.

    Raises:
        ValueError: There is no class, or rows are not as wide as regions.
    """
    if len(class_embeddings) == 0 or class_embeddings.shape[1] != width:
        raise ValueError(
            f"class embeddings are {tuple(class_embeddings.shape)}, expected at least one row "
            f"of {width} numbers; encode the names with this model's text tower"
        )
    return F.normalize(class_embeddings.detach().to(device).float(), dim=1)
