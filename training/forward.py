"""The one forward of a step, which gives everything that the losses need."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from modeling_fgclip import FGCLIP2Model, FGCLIPModel

from .data.pixels import normalized
from .losses.term import StepOutput

# What the model's forward takes of a batch; the rest says who belongs to whom.
MODEL_INPUTS = ("pixel_values", "pixel_attention_mask", "spatial_shapes", "packed_texts", "boxes")
TEXT_PREFIXES = ("text_model.", "text_projection.", "text_filip_projection.", "boxtext_head.", "longtext_head.")


def embed(model: nn.Module, batch: dict[str, Any]) -> StepOutput:
    """Embeds a batch of the collator. Crops are images behind the others, so that one wrapped forward sees all."""
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    images = len(batch["pixel_values"])
    inputs["pixel_values"] = normalized(batch)
    if "crops" in batch:
        inputs["pixel_values"] = torch.cat([inputs["pixel_values"], normalized(batch, "crops")])
    output = StepOutput(**model(**inputs))
    if "crops" in batch:
        output.crop_embeds, output.image_embeds = output.image_embeds[images:], output.image_embeds[:images]
    return output


class Teacher:
    """A frozen copy of a model as it is now, outside of whatever wraps the one that trains."""

    def __init__(self, model: FGCLIPModel):
        self._model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) to (N, D) global embeddings, L2-normalized, without gradient."""
        self._model.to(images.device)
        return F.normalize(self._model.get_image_features(images).float(), dim=-1)


def freeze_text(model: FGCLIPModel | FGCLIP2Model) -> None:
    """For objectives without texts."""
    for name, parameter in model.named_parameters():
        if name.startswith(TEXT_PREFIXES):
            parameter.requires_grad_(False)
