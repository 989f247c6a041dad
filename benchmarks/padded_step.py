"""The published step's layout on our model, to compare with: every text padded, four text passes, whole last blocks, CLIP's MLP."""

from typing import Any

import torch
from transformers.models.clip.modeling_clip import CLIPMLP

from modeling_fgclip import FGCLIPConfig, FGCLIPModel, FGCLIPOutput
from training.data.collator import NO_TEXT

# One text pass each, in this order; only the first is long.
KINDS = ("long_index", "short_index", "region_index", "hard_index")


def pad_batch(config: FGCLIPConfig, batch: dict[str, Any]) -> dict[str, Any]:
    """A collator's batch as the published step has it: long texts padded to 248 tokens, the others to 77, repeats and all.

    Returns:
        the batch with `padded_texts`, the (n, 248 or 77) token ids of each kind of text, instead of `packed_texts`, and
        with indices into the embeddings of all kinds one after the other.
    """
    packed = batch["packed_texts"]
    input_ids = packed["input_ids"] if packed["nodes"] is None else packed["input_ids"][packed["nodes"]]
    rows = input_ids.split(packed["cu_seqlens"].diff().tolist())
    texts = [rows[place] for place in packed["restore"].tolist()]
    text_config = config.text_config
    padded: dict[str, Any] = {name: value for name, value in batch.items() if name != "packed_texts"}
    padded["padded_texts"], first = [], 0
    for kind in (kind for kind in KINDS if kind in batch):
        is_long = kind == "long_index"
        length = text_config.max_long_position_embeddings if is_long else text_config.max_position_embeddings
        there = batch[kind] != NO_TEXT
        chosen = [texts[row] for row in batch[kind][there].tolist()]
        input_ids = torch.full((len(chosen), length), text_config.eos_token_id)
        for row, text in zip(input_ids, chosen, strict=True):
            row[: len(text)] = text
        padded["padded_texts"].append(input_ids)
        padded[kind] = batch[kind].masked_scatter(there, torch.arange(first, first + len(chosen)))
        first += len(chosen)
    return padded


def take_clips_mlps(model: FGCLIPModel) -> None:
    """Makes the MLPs CLIP's own again, as the published model has them."""
    for encoder in (model.vision_model.encoder, model.text_model.encoder):
        for layer in encoder.layers:
            layer.mlp.__class__ = CLIPMLP


def padded_forward(model: FGCLIPModel, batch: dict[str, Any]) -> FGCLIPOutput:
    """What `FGCLIPModel.forward` returns for the packed batch, for one of `pad_batch`."""
    vision = model.vision_model
    trunk = vision.trunk(batch["pixel_values"])
    last = vision.encoder.layers[-1](trunk, None)
    output = FGCLIPOutput()
    output.image_embeds = model._normalize(model.visual_projection(vision.post_layernorm(last[:, 0])))
    if "boxes" in batch:
        output.region_embeds = model._normalize(model._pool_regions(batch["pixel_values"], trunk, batch["boxes"]))
    embeds = [_embed(model, input_ids, number == 0) for number, input_ids in enumerate(batch["padded_texts"])]
    output.text_embeds = torch.cat(embeds)
    output.scales = tuple(
        scale.exp() for scale in (model.logit_scale, model.logit_scale_finegraind, model.logit_scale_hardneg)
    )
    return output


def _embed(model: FGCLIPModel, input_ids: torch.Tensor, long_text: bool) -> torch.Tensor:
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    position_ids = model.text_model.position_ids_of(positions, long_text).expand_as(input_ids)
    # Past get_text_features, which would cut the padding.
    pooled = model.text_model(input_ids, position_ids=position_ids).pooler_output
    projection = model.text_filip_projection if long_text else model.text_projection
    return model._normalize(projection(pooled))
