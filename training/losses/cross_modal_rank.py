"""Cross-modal rank loss of FG-CLIP 2: a phrase fits its region better than a rewrite, by a margin that training sets."""

from typing import Any

import torch

from training.distributed import sum_over_ranks

from .contrastive import mean_over_ranks
from .term import Exchange, Step, Term

MAX_MARGIN = 10.0


def cross_modal_rank_loss(
    region: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor, margin: torch.Tensor
) -> torch.Tensor:
    """Mean of relu(margin + negative - positive) over all negatives of all regions, on scaled similarities.

    Args:
        region: (R, D) embeddings of the regions with hard negatives, L2-normalized.
        text: (R, M, D) embeddings of the positive phrase, first, and of the negatives.
        scale: inverse temperature of the hard-negative loss.
        valid: (R, M) bool, false for padding; a region counts if its positive and one negative are valid.
        margin: scalar, the same on all ranks.
    """
    logits, counted = _logits(region, text, scale, valid)
    return mean_over_ranks((margin + logits[:, 1:] - logits[:, :1]).relu().flatten(), counted.flatten())


def margin_sums(region: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(4,) this rank's sum and number of positive logits, and of negative ones, from which `next_margin` follows."""
    logits, counted = _logits(region.detach(), text.detach(), scale.detach(), valid)
    has_negative = counted.any(-1)
    return torch.stack(
        [
            torch.where(has_negative, logits[:, 0], 0).sum(),
            has_negative.sum(),
            torch.where(counted, logits[:, 1:], 0).sum(),
            counted.sum(),
        ]
    ).float()


def next_margin(sums: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """The margin of the next step: mean positive minus mean negative logit over all ranks, clamped to [0, 10].

    Args:
        sums: (4,) of this rank, of all batches of the step (see `margin_sums`).
        margin: of this step, which stays where no rank had a hard negative.
    """
    positive, positives, negative, negatives = sum_over_ranks(sums).unbind()
    difference = positive / positives.clamp(min=1) - negative / negatives.clamp(min=1)
    return torch.where(negatives > 0, difference.clamp(0, MAX_MARGIN), margin)


def _logits(
    region: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, M) scaled similarities, and (R, M - 1) which negatives count."""
    logits = scale * torch.einsum("rd,rmd->rm", region.float(), text.float())
    return logits, valid[:, 1:] & valid[:, :2].all(-1, keepdim=True)


class CrossModalRank:
    """The loss of a run, whose margin follows the step before it on all ranks (published: from 0 on).

    Of several batches of a step, all count for the next margin.
    """

    def __init__(self) -> None:
        self.margin: torch.Tensor = torch.zeros(())
        self._sums: torch.Tensor = torch.zeros(4)

    def __call__(self, step: Step, scale: torch.Tensor) -> torch.Tensor:
        region, text, valid = step.hard_regions()
        self.margin, self._sums = self.margin.to(region.device), self._sums.to(region.device)
        if torch.is_grad_enabled():
            self._sums = self._sums + margin_sums(region, text, scale, valid)
        return cross_modal_rank_loss(region, text, scale, valid, self.margin)

    def end_step(self) -> None:
        self.margin = next_margin(self._sums, self.margin)
        self._sums = torch.zeros_like(self._sums)

    def state_dict(self) -> dict[str, Any]:
        return {"margin": self.margin.item()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.margin = torch.tensor(state["margin"])


TERM = Term(
    "rank",
    0.2,  # published: 0.4 of half
    CrossModalRank,
    "logit_scale_hardneg",
    frozenset({"texts", "regions"}),
    (Exchange("rewrites", "regions"),),
)
