"""The textual intra-modal loss of FG-CLIP 2: phrases of different regions move apart."""

import torch

from training.distributed import gather, rank

from .contrastive import mean_over_ranks
from .term import Exchange, Step, Term


def textual_contrast_loss(
    text: torch.Tensor, valid: torch.Tensor, alike: float = 0.95, hardest: int = 10, over_ranks: bool = True
) -> torch.Tensor:
    """Mean log of the summed exponentials of each phrase's largest similarities to the others; there is no temperature.

    As published, a phrase's similarity to itself and to one that says the same stands as 0 among them, which adds
    exp(0). With fewer phrases than `hardest` all are taken.

    Args:
        text: (n, D) embeddings of the regions' phrases, L2-normalized. Every rank has the same n.
        valid: (n,) bool, false for padding.
        alike: similarity above which two phrases count as one (published: 0.95).
        hardest: similarities taken of each phrase (published: 10).
        over_ranks: whether phrases of all ranks are compared or, as published, of this one alone.

    Returns:
        scalar, this rank's share of the mean over all valid phrases.
    """
    text = text.float()
    texts, texts_valid, first = (gather(text), gather(valid), rank() * len(text)) if over_ranks else (text, valid, 0)
    similarities = text @ texts.t()
    own = torch.arange(len(text), device=text.device).unsqueeze(1) + first
    is_self = own == torch.arange(len(texts), device=text.device)
    similarities = similarities.masked_fill(is_self | (similarities.detach() > alike), 0)
    # The lowest number and not -inf, which would give NaN gradients where no phrase is valid.
    similarities = similarities.masked_fill(~texts_valid, torch.finfo(similarities.dtype).min)
    largest = similarities.topk(min(hardest, len(texts)), dim=-1).values
    return mean_over_ranks(largest.logsumexp(-1), valid)


def _loss(step: Step, scale: None) -> torch.Tensor:
    text, valid = step.texts("region_index")
    return textual_contrast_loss(text.flatten(0, 1), valid.flatten(), over_ranks=step.regional_over_ranks)


TERM = Term(
    "textual",
    0.1,  # published
    _loss,
    None,
    frozenset({"texts", "regions"}),
    (Exchange("phrases", "regions", gathered=("texts",), regional=True),),
)
