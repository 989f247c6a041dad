"""LoRA fine-tuning (Hu et al., 2022) through peft: small matrices learn, the checkpoint's weights stand still."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_fgclip.extras import missing_extra

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


def add_lora(
    model: nn.Module, rank: int, alpha: float, dropout: float = 0.0, targets: Sequence[str] | str = TARGETS
) -> None:
    """Puts adapters beside matrices, in place, and freezes everything else.

    Args:
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        dropout: of their input.
        targets: which matrices: names, or a regular expression of their full names; by default every one of an
            FG-CLIP's encoders.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(missing_extra("LoRA needs peft", "lora")) from error
    model.requires_grad_(False)
    targets = targets if isinstance(targets, str) else list(targets)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets), model)


def has_lora(model: nn.Module) -> bool:
    return any("lora_A" in name for name, _ in model.named_parameters())


@torch.no_grad()
def merged_state(model: nn.Module, state_dict: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The state dict of the plain model that the adapted one equals.

    Args:
        state_dict: the adapted model's, where it had to be gathered from shards.
    """
    given = model.state_dict() if state_dict is None else state_dict
    state = {}
    for name, value in given.items():
        if "lora_" in name:
            continue
        owner, _, leaf = name.rpartition(".")
        if owner.endswith(".base_layer"):
            owner = owner.removesuffix(".base_layer")
            if leaf == "weight":
                for adapter, scale in model.get_submodule(owner).scaling.items():
                    up, down = (given[f"{owner}.lora_{part}.{adapter}.weight"] for part in "BA")
                    value = value + scale * (up @ down).to(value.dtype)
            name = f"{owner}.{leaf}"
        state[name] = value
    return state


def save_adapters(model: nn.Module, folder: Path) -> None:
    """Writes what learns, adapters and whatever else is not frozen, from which a run resumes exactly."""
    save_file({name: p.detach().cpu().contiguous() for name, p in _learned(model).items()}, folder / FILE)


@torch.no_grad()
def load_adapters(model: nn.Module, folder: Path) -> None:
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


def _learned(model: nn.Module) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
