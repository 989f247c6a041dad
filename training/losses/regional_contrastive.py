"""L_regional: regions against their phrases (equation 3)."""

import torch

from .contrastive import contrastive_loss
from .term import Exchange, Step, Term


def regional_contrastive_loss(
    region: torch.Tensor,
    text: torch.Tensor,
    scale: torch.Tensor,
    valid: torch.Tensor,
    identity: torch.Tensor | None = None,
    over_ranks: bool = True,
) -> torch.Tensor:
    """InfoNCE over the valid regions of all images.

    Args:
        region: (B, K, D) region embeddings, L2-normalized, zeros for padding.
        text: (B, K, D) embeddings of the regions' phrases.
        scale: inverse temperature of the regional loss.
        valid: (B, K) bool.
        identity: (B, K) integers; regions of equal phrases are then no negatives of each other.
        over_ranks: whether negatives come from all ranks or, as published, from this one alone.
    """
    identity = None if identity is None else identity.flatten()
    return contrastive_loss(
        region.flatten(0, 1), text.flatten(0, 1), scale, valid.flatten(), identity, over_ranks=over_ranks
    )


def _loss(step: Step, scale: torch.Tensor) -> torch.Tensor:
    text, valid = step.texts("region_index")
    identity = step.identity("region_index")
    return regional_contrastive_loss(step.output.region_embeds, text, scale, valid, identity, step.regional_over_ranks)


TERM = Term(
    "regional",
    0.1,  # alpha of equation 5
    _loss,
    "logit_scale_finegraind",
    frozenset({"texts", "regions"}),
    (Exchange("regions", "regions", gathered=("regions", "texts"), regional=True),),
)
