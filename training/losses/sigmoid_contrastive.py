"""The sigmoid loss of SigLIP (Zhai et al., 2023), FG-CLIP 2's global loss."""

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from training.distributed import gather, rank, sum_over_ranks, world_size

from .contrastive import MAX_LOGITS, are_alike
from .term import Exchange, Step, Term


def sigmoid_contrastive_loss(
    image: torch.Tensor,
    text: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    valid: torch.Tensor | None = None,
    identity: torch.Tensor | None = None,
    max_logits: int = MAX_LOGITS,
) -> torch.Tensor:
    """Every image with every text as a yes-or-no question: -sum log sigmoid(y (scale * cosine + bias)) / images.

    Args:
        image, text: (B, D) of this rank, L2-normalized; row i of both belongs together. Every rank has the same B.
        scale, bias: scalar tensors.
        valid: (B,) bool, false for an image without this caption: it asks nothing, neither does its row of `text`.
        identity: (B,) or (B, k) integers; texts that are equal in any of k are no negatives of each other's images.
        max_logits: similarities held at once; the gradient is the same for any number.

    Returns:
        scalar, this rank's share: the mean of the shares over the ranks is the loss of one process with all of the batch.
    """
    image, text = image.float(), text.float()
    valid = torch.ones(len(image), dtype=torch.bool, device=image.device) if valid is None else valid
    texts, texts_valid = gather(text), gather(valid)
    identities = None if identity is None else gather(identity)
    own = torch.arange(len(image), device=image.device) + rank() * len(image)
    place = torch.arange(len(texts), device=image.device)

    def of_rows(images: torch.Tensor, chunk: slice) -> torch.Tensor:
        is_pair = own[chunk].unsqueeze(1) == place
        counted = valid[chunk].unsqueeze(1) & texts_valid
        if identities is not None:
            counted = counted & (is_pair | ~are_alike(identity[chunk], identities))
        logits = scale * (images @ texts.t()) + bias
        return torch.where(counted, F.softplus(torch.where(is_pair, -logits, logits)), 0).sum()

    rows = max(1, max_logits // len(texts))
    if len(image) <= rows:
        total = of_rows(image, slice(None))
    else:
        chunks = [slice(start, start + rows) for start in range(0, len(image), rows)]
        # Each chunk's logits are formed again in the backward pass instead of being kept.
        total = sum(checkpoint(of_rows, image[chunk], chunk, use_reentrant=False) for chunk in chunks)
    return total * world_size() / sum_over_ranks(valid.sum()).clamp(min=1)


def _loss(step: Step, scale: torch.Tensor) -> torch.Tensor:
    """The sum of the long and the short captions' losses."""
    total = 0
    for index in ("long_index", "short_index"):
        text, valid = step.texts(index)
        bias = step.output.bias.reshape(())
        total = total + sigmoid_contrastive_loss(
            step.output.image_embeds, text, scale, bias, valid, step.caption_identity(index)
        )
    return total


TERM = Term(
    "sigmoid",
    1.0,
    _loss,
    "logit_scale",
    frozenset({"texts", "bias"}),
    tuple(Exchange(name, "images", gathered=("texts",)) for name in ("long captions", "short captions")),
)
