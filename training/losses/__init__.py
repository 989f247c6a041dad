"""The three losses of FG-CLIP. Each takes embeddings and an inverse temperature and returns a scalar."""

from .global_contrastive import global_contrastive_loss
from .hard_negative import hard_negative_loss
from .regional_contrastive import regional_contrastive_loss

__all__ = ["global_contrastive_loss", "hard_negative_loss", "regional_contrastive_loss"]
