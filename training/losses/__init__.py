"""Losses, one a file: a function of embeddings and an inverse temperature, and the term that makes it a part of a run."""

from . import (
    cross_modal_rank,
    distillation,
    global_contrastive,
    hard_contrastive,
    hard_negative,
    long_clip,
    regional_contrastive,
    self_distillation,
    sigmoid_contrastive,
    textual_contrast,
)
from .cross_modal_rank import cross_modal_rank_loss, margin_sums, next_margin
from .global_contrastive import global_contrastive_loss
from .hard_contrastive import hard_contrastive_loss
from .hard_negative import hard_negative_loss
from .regional_contrastive import regional_contrastive_loss
from .sigmoid_contrastive import sigmoid_contrastive_loss
from .term import Step, Term
from .textual_contrast import textual_contrast_loss

# Every loss that `--losses` can name.
TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        global_contrastive.TERM,
        regional_contrastive.TERM,
        hard_negative.TERM,
        self_distillation.TERM,
        distillation.TERM,
        long_clip.TERM,
        sigmoid_contrastive.TERM,
        textual_contrast.TERM,
        hard_contrastive.TERM,
        cross_modal_rank.TERM,
    )
}

__all__ = [
    "TERMS",
    "Step",
    "Term",
    "cross_modal_rank_loss",
    "global_contrastive_loss",
    "hard_contrastive_loss",
    "hard_negative_loss",
    "margin_sums",
    "next_margin",
    "regional_contrastive_loss",
    "sigmoid_contrastive_loss",
    "textual_contrast_loss",
]
