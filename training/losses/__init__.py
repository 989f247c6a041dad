"""The losses of FG-CLIP and FG-CLIP 2. Each takes embeddings and an inverse temperature and returns a scalar."""

from .cross_modal_rank import cross_modal_rank_loss, margin_sums, next_margin
from .global_contrastive import global_contrastive_loss
from .hard_contrastive import hard_contrastive_loss
from .hard_negative import hard_negative_loss
from .regional_contrastive import regional_contrastive_loss
from .sigmoid_contrastive import sigmoid_contrastive_loss
from .textual_contrast import textual_contrast_loss

__all__ = [
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
