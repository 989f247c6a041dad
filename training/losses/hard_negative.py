"""L_hard: a region's phrase against rewrites of it (equation 4)."""

import torch

from .contrastive import mean_over_ranks
from .term import Exchange, Step, Term


def hard_negative_loss(
    region: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of each region over its positive phrase and its hard negatives.

    Args:
        region: (R, D) embeddings of the regions with hard negatives, L2-normalized.
        text: (R, M, D) embeddings of the positive phrase, first, and of the negatives.
        scale: inverse temperature of the hard-negative loss.
        valid: (R, M) bool, false for padding; a region counts if its positive and one negative are valid.
    """
    logits = scale * torch.einsum("rd,rmd->rm", region.float(), text.float())
    logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
    return mean_over_ranks(logits.logsumexp(-1) - logits[:, 0], valid[:, :2].all(-1))


def _loss(step: Step, scale: torch.Tensor) -> torch.Tensor:
    region, text, valid = step.hard_regions()
    return hard_negative_loss(region, text, scale, valid)


TERM = Term(
    "hard",
    0.5,  # beta of equation 5
    _loss,
    "logit_scale_hardneg",
    frozenset({"texts", "regions"}),
    (Exchange("hard negatives", "regions"),),
)
