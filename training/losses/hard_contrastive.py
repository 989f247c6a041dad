"""Contrast of regions with all phrases and all rewrites of a batch, a part of FG-CLIP 2's hard-negative loss."""

import torch

from training.distributed import gather_ragged

from .contrastive import mean_over_ranks
from .term import Exchange, Step, Term


def hard_contrastive_loss(
    region: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor, over_ranks: bool = True
) -> torch.Tensor:
    """Cross-entropy of regions over all positives and all negatives, and of positives over regions, halved.

    Args:
        region: (R, D) embeddings of the regions with hard negatives, L2-normalized; R may differ between ranks.
        text: (R, M, D) embeddings of the positive phrase, first, and of the negatives.
        scale: inverse temperature of the hard-negative loss.
        valid: (R, M) bool, false for padding; a region counts if its positive and one negative are valid.
        over_ranks: whether phrases and regions of all ranks are contrasted or, as published, of this one alone.
    """
    counted = valid[:, :2].all(-1)
    region, positive = region.float()[counted], text.float()[counted, 0]
    negative = text.float()[:, 1:][valid[:, 1:] & counted.unsqueeze(-1)]
    collect = gather_ragged if over_ranks else lambda tensor: (tensor, 0)
    (positives, _), (negatives, _), (regions, _) = collect(positive), collect(negative), collect(region)
    own = scale * (region * positive).sum(-1)
    from_region = (scale * region @ torch.cat([positives, negatives]).t()).logsumexp(-1) - own
    from_text = (scale * positive @ regions.t()).logsumexp(-1) - own
    return mean_over_ranks((from_region + from_text) / 2, torch.ones_like(own, dtype=torch.bool))


def _loss(step: Step, scale: torch.Tensor) -> torch.Tensor:
    region, text, valid = step.hard_regions()
    return hard_contrastive_loss(region, text, scale, valid, step.regional_over_ranks)


TERM = Term(
    "hard_contrastive",
    0.3,  # published: 0.6 of half
    _loss,
    "logit_scale_hardneg",
    frozenset({"texts", "regions"}),
    (
        Exchange("regions with rewrites", "hard regions", gathered=("regions", "texts"), regional=True, ragged=True),
        Exchange("rewrites", "rewrites", gathered=("texts",), regional=True, ragged=True, mean=False),
    ),
)
