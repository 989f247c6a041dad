"""Long-CLIP: long captions against images, short captions against the principal components of images."""

import torch

from training.distributed import gather

from .contrastive import contrastive_loss
from .term import Exchange, Step, Term

COMPONENTS = 32  # as published, of 512 or 768 dimensions


def principal_part(image: torch.Tensor, components: int = COMPONENTS) -> torch.Tensor:
    """(B, D) embeddings, each put together again from its mean and its strongest principal components.

    Mean and components are those of the batch of all ranks, and constants of the step: components of equal variance have
    no gradient.
    """
    with torch.no_grad():
        everyone = gather(image.detach().float())
        mean = everyone.mean(0)
        _, spread, directions = torch.linalg.svd(everyone - mean, full_matrices=False)
        # Where a batch has fewer, the rest are any directions in which nothing varies.
        varies = spread > spread[0] * len(spread) * torch.finfo(spread.dtype).eps
        basis = (directions * varies.unsqueeze(1))[:components]  # (components, D)
    return (image.float() - mean) @ basis.t() @ basis + mean


def long_clip_loss(
    image: torch.Tensor,
    long_text: torch.Tensor,
    short_text: torch.Tensor,
    scale: torch.Tensor,
    has_long: torch.Tensor | None = None,
    has_short: torch.Tensor | None = None,
    components: int = COMPONENTS,
    long_identity: torch.Tensor | None = None,
    short_identity: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum of both InfoNCE losses, each the mean of both directions.

    Args:
        image, long_text, short_text: (B, D), L2-normalized.
        scale: inverse temperature.
        has_long, has_short: (B,) bool, false for an image without that caption.
        components: that a short caption is to describe.
        long_identity, short_identity: as in `global_contrastive_loss`.
    """
    from_long = contrastive_loss(image, long_text, scale, has_long, long_identity)
    part = principal_part(image, components)
    return from_long + contrastive_loss(part, short_text, scale, has_short, short_identity)


def _loss(step: Step, scale: torch.Tensor) -> torch.Tensor:
    long_text, has_long = step.texts("long_index")
    short_text, has_short = step.texts("short_index")
    return long_clip_loss(
        step.output.image_embeds,
        long_text,
        short_text,
        scale,
        has_long,
        has_short,
        long_identity=step.caption_identity("long_index"),
        short_identity=step.caption_identity("short_index"),
    )


# Zhang et al., ECCV 2024 ("primary component matching"), instead of the global loss: `--losses long_clip`. As in their
# public code (beichenzbc/Long-CLIP) what the components give is not normalized again, and both losses weigh 1. Left out
# is its label smoothing of 0.1, which no other loss here has.
TERM = Term(
    "long_clip",
    1.0,
    _loss,
    "logit_scale",
    frozenset({"texts"}),
    (
        Exchange("long captions", "images", gathered=("images", "texts")),
        Exchange("short captions", "images", gathered=("components", "texts"), constant=("images",)),
    ),
)
