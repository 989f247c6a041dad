"""L_global: images against their long and their short captions (equation 2)."""

import torch

from .contrastive import contrastive_loss
from .term import Exchange, Step, Term


def global_contrastive_loss(
    image: torch.Tensor,
    long_text: torch.Tensor,
    short_text: torch.Tensor,
    scale: torch.Tensor,
    has_long: torch.Tensor | None = None,
    has_short: torch.Tensor | None = None,
    long_identity: torch.Tensor | None = None,
    short_identity: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum of the long-caption and the short-caption InfoNCE, each the mean of both directions.

    Args:
        image, long_text, short_text: (B, D), L2-normalized.
        scale: inverse temperature of the global loss.
        has_long, has_short: (B,) bool, false for an image without that caption.
        long_identity, short_identity: (B,) or (B, k) integers; pairs that are equal in any of k are no negatives of each other.
    """
    from_long = contrastive_loss(image, long_text, scale, has_long, long_identity)
    return from_long + contrastive_loss(image, short_text, scale, has_short, short_identity)


def _loss(step: Step, scale: torch.Tensor) -> torch.Tensor:
    long_text, has_long = step.texts("long_index")
    short_text, has_short = step.texts("short_index")
    identities = step.caption_identity("long_index"), step.caption_identity("short_index")
    return global_contrastive_loss(
        step.output.image_embeds, long_text, short_text, scale, has_long, has_short, *identities
    )


TERM = Term(
    "global",
    1.0,
    _loss,
    "logit_scale",
    frozenset({"texts"}),
    tuple(Exchange(name, "images", gathered=("images", "texts")) for name in ("long captions", "short captions")),
)
