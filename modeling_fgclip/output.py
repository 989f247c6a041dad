"""What both families' models return."""

from dataclasses import dataclass

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput


@dataclass
class FGCLIPOutput(ModelOutput):
    """Output of [`FGCLIPModel`] and [`FGCLIP2Model`]; what was not asked for is left out. Embeddings are L2-normalized.

    Attributes:
        loss: contrastive loss of the images and texts of the batch, with `return_loss`: symmetric InfoNCE (FG-CLIP,
            equation 2) or sigmoid loss (FG-CLIP 2).
        logits_per_image: (images, texts) cosine similarities over the temperature, plus the bias where there is one.
        logits_per_text: (texts, images), its transpose.
        text_embeds: (texts, D).
        image_embeds: (images, D).
        text_model_output: of the text encoder: last_hidden_state (texts, L, D), pooler_output; not for packed texts.
        vision_model_output: of the image encoder, likewise; not beside packed texts, whose training needs none of it.
        region_embeds: (images, boxes, D); zeros for padding.
        scales: inverse temperatures of the global, the regional and the hard-negative loss.
        bias: of the global logits (FG-CLIP 2).
    """

    loss: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    region_embeds: torch.Tensor | None = None
    scales: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    bias: torch.Tensor | None = None

    def to_tuple(self) -> tuple:
        """The values that are there, in CLIP's order; nested outputs as tuples, too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in super().to_tuple())


__all__ = ["FGCLIPOutput"]
