"""LoRA fine-tuning (Hu et al., 2022) through peft: small matrices learn, the checkpoint's weights stand still."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_fgclip import FGCLIPModel
from modeling_fgclip.extras import missing_extra
from training.temperatures import checkpoint_state

FILE = "lora.safetensors"

# Attention, MLP, projections and heads of both encoders, of either family.
TARGETS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "fc1",
    "fc2",
    "visual_projection",
    "text_projection",
    "text_filip_projection",
    "text_model.head",
    "boxtext_head",
    "longtext_head",
)


def add_lora(model: FGCLIPModel, rank: int, alpha: float, dropout: float = 0.0) -> None:
    """Puts adapters beside every matrix of both encoders, in place, and freezes everything else.

    Args:
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        dropout: of their input.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(missing_extra("LoRA needs peft", "lora")) from error
    model.requires_grad_(False)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(TARGETS)), model
    )


def has_lora(model: nn.Module) -> bool:
    return any("lora_A" in name for name, _ in model.named_parameters())


@torch.no_grad()
def merged_state(model: FGCLIPModel) -> dict[str, torch.Tensor]:
    """The state dict of the plain model that the adapted one equals."""
    state = {}
    for name, value in model.state_dict().items():
        if "lora_" in name:
            continue
        owner, _, leaf = name.rpartition(".")
        if owner.endswith(".base_layer"):
            layer = model.get_submodule(owner.removesuffix(".base_layer"))
            if leaf == "weight":
                value = value + sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
            name = f"{owner.removesuffix('.base_layer')}.{leaf}"
        state[name] = value
    return checkpoint_state(state, model)


def save_adapters(model: FGCLIPModel, folder: Path) -> None:
    """Writes what learns, adapters and temperatures, from which a run resumes exactly."""
    save_file({name: p.detach().cpu().contiguous() for name, p in _learned(model).items()}, folder / FILE)


@torch.no_grad()
def load_adapters(model: FGCLIPModel, folder: Path) -> None:
    """Reads what `save_adapters` wrote into a model with the same adapters over the same checkpoint.

    Raises:
        ValueError: there is none, or it is of other adapters.
    """
    if not (folder / FILE).is_file():
        raise ValueError(f"{folder} holds no {FILE}: it is of a run without LoRA. Resume without --lora_rank.")
    saved, learned = load_file(folder / FILE), _learned(model)
    if {name: value.shape for name, value in saved.items()} != {name: value.shape for name, value in learned.items()}:
        raise ValueError(f"{folder / FILE} is of other adapters; resume with the same --lora_rank and losses.")
    for name, parameter in learned.items():
        parameter.copy_(saved[name])


def _learned(model: FGCLIPModel) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
