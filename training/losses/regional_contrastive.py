"""L_regional: regions against their phrases (equation 3)."""

import torch

from .contrastive import contrastive_loss


def regional_contrastive_loss(
    region: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """InfoNCE over the valid regions of all images of all ranks.

    Args:
        region: (B, K, D) region embeddings, L2-normalised, zeros for padding.
        text: (B, K, D) embeddings of the regions' phrases.
        scale: inverse temperature of the regional loss.
        valid: (B, K) bool.
    """
    return contrastive_loss(region.flatten(0, 1), text.flatten(0, 1), scale, valid.flatten())
