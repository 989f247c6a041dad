"""FineCLIP's self-distillation: a region's dense features against the same model's view of its crop."""

import torch

from .contrastive import mean_over_ranks
from .term import Exchange, Step, Term


def cosine_loss(region: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean of 1 - cosine over the regions of all ranks, as this rank's share.

    Args:
        region, target: (R, D), L2-normalized.
    """
    valid = torch.ones(len(region), dtype=torch.bool, device=region.device)
    return mean_over_ranks(1 - (region.float() * target.float()).sum(-1), valid)


def _loss(step: Step, scale: None) -> torch.Tensor:
    return cosine_loss(step.cropped_regions(), step.output.crop_embeds)


# Jing et al., NeurIPS 2024 ("real-time self-distillation"). As in their public code (Timsty1/FineCLIP), the model is its
# own teacher, the gradient goes into the crop's embedding as into the region's, and all losses weigh 1:
# `--losses global regional=1 self_distillation`. Theirs share one temperature, and count padding as pairs of the
# regional loss; here each contrastive loss has its own and padding counts nowhere.
TERM = Term(
    "self_distillation",
    1.0,
    _loss,
    needs=frozenset({"regions", "crops"}),
    exchanges=(Exchange("cropped regions", "regions"),),
)
