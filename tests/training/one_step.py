"""A step of training or of evaluation by one of the paths that a user can take, on any device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from benchmarks.stage2_batch import make_batch
from eval.adapters.fgclip import FGCLIPAdapter
from eval.adapters.fgclip2 import FGCLIP2Adapter
from training.architectures import architecture
from training.efficiency.activation_checkpointing import checkpoint_selectively
from training.efficiency.gradient_cache import cache_gradients
from training.efficiency.lora import add_lora
from training.forward import MODEL_INPUTS, embed
from training.objective import Objective, parse_losses

SHALLOW = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 2}}
FGCLIP = {"model": "b16", "images": 2, "case": "hard", "losses": ["global", "regional", "hard"], "settings": SHALLOW}
FGCLIP2 = {**FGCLIP, "model": "fgclip2-base", "losses": ["sigmoid", "regional", "textual", "hard", "rank"]}
PATHS = {
    "packed": FGCLIP,
    "shared prefixes": {**FGCLIP, "share_prefixes": True},
    "float32": {**FGCLIP, "half": False},
    "stage 1": {**FGCLIP, "case": "stage1", "losses": ["global"]},
    "cached": {**FGCLIP, "cached": True},
    "blocks checkpointed": {**FGCLIP, "checkpointing": "blocks"},
    "selectively checkpointed": {**FGCLIP, "checkpointing": "selective"},
    "LoRA": {**FGCLIP, "lora": True},
    "evaluation": {**FGCLIP, "evaluation": True, "share_prefixes": True},
    "FG-CLIP 2": FGCLIP2,
    "FG-CLIP 2, cached": {**FGCLIP2, "cached": True},
    "FG-CLIP 2, LoRA": {**FGCLIP2, "lora": True},
    "FG-CLIP 2, evaluation": {**FGCLIP2, "evaluation": True},
}


@dataclass
class Settings:
    """
    Args:
        model: of `training.architectures`.
        images: of the batch.
        losses: as in `--losses`.
        case: of `benchmarks.stage2_batch`.
        share_prefixes: whether FG-CLIP's texts share what they begin with.
        checkpointing: of `training.planning.communication.CHECKPOINTING`.
        half: bfloat16 autocast.
        settings: that the model's configuration has instead (tiny ones), by part.
        lora: whether adapters alone are trained.
        cached: whether gradients are cached, over two batches.
        evaluation: whether features are taken as the benchmarks take them, instead of a step.
        stray: a tensor of the batch that stays on the CPU.
    """

    model: str
    images: int
    losses: list[str]
    case: str = "typical"
    share_prefixes: bool = False
    checkpointing: str = "none"
    half: bool = True
    settings: dict[str, dict[str, Any]] | None = None
    lora: bool = False
    cached: bool = False
    evaluation: bool = False
    stray: str | None = None


def configuration(settings: Settings) -> PreTrainedConfig:
    config = architecture(settings.model)
    for part, values in (settings.settings or {}).items():
        for name, value in values.items():
            setattr(getattr(config, part), name, value)
    return config


def make_batches(config: PreTrainedConfig, settings: Settings) -> list[dict[str, Any]]:
    return [
        make_batch(config, settings.images, settings.case, seed, settings.share_prefixes)
        for seed in range(1 + settings.cached)
    ]


def prepare(model: nn.Module, settings: Settings) -> nn.Module:
    """The model as the trainer has it."""
    model.train()
    if settings.checkpointing == "blocks":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    elif settings.checkpointing == "selective":
        checkpoint_selectively(model)
    if settings.lora:
        add_lora(model, rank=4, alpha=8)
    return model


def train(model: nn.Module, batches: list[dict[str, Any]], settings: Settings, device: str) -> dict[str, torch.Tensor]:
    """A forward and a backward pass.

    Returns:
        losses and gradients by name.
    """
    objective = Objective(parse_losses(settings.losses))

    def forward(batch: dict[str, Any]) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=settings.half):
            return embed(model, batch)

    if settings.cached:
        losses, cached = cache_gradients(forward, batches, objective, torch.device(device))
        for batch, cache in zip(batches, cached, strict=True):
            cache.loss(forward(batch)).backward()
    else:
        output = forward(batches[0])
        losses = objective.losses(output, batches[0])
        objective.total(losses).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return losses | gradients


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: list[dict[str, Any]], settings: Settings, device: str
) -> dict[str, torch.Tensor]:
    """Features as the benchmarks take them."""
    adapter = {"fgclip": FGCLIPAdapter, "fgclip2": FGCLIP2Adapter}[model.config.model_type](model.eval(), None)
    (batch,) = batches
    inputs = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    images = {name: value for name, value in inputs.items() if name not in ("packed_texts", "boxes")}
    with torch.autocast(device, torch.bfloat16, enabled=settings.half):
        return {
            "images": adapter.encode_images(images),
            "texts": adapter.encode_texts(batch["packed_texts"], "short"),
            # Without the adapter, which judges boxes by their numbers.
            "regions": model(**inputs).region_embeds,
        }
