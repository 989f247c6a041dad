"""The three temperatures: 0-dimensional in checkpoints, of shape (1,) while training, clamped as in CLIP."""

import math
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from modeling_fgclip import FGCLIP2Model, FGCLIPModel

from .family import training_family

# As the model's output has their scales; the names are those of published checkpoints.
TEMPERATURES = ("logit_scale", "logit_scale_finegraind", "logit_scale_hardneg")


@torch.no_grad()
def set_temperatures(model: FGCLIPModel | FGCLIP2Model, temperature: float) -> None:
    """Starts all three temperatures anew, as stage 1 does at 0.07 (section 4.1)."""
    for name in TEMPERATURES:
        getattr(model, name).fill_(-math.log(temperature))


def prepare_temperatures(model: FGCLIPModel | FGCLIP2Model) -> None:
    """Gives temperatures the shape (1,): sharded optimizers (FSDP2, DeepSpeed) cannot hold 0-dimensional parameters."""
    for name in TEMPERATURES:
        parameter = getattr(model, name)
        if parameter.dim() == 0:
            setattr(model, name, nn.Parameter(parameter.detach().reshape(1), parameter.requires_grad))
    model.register_load_state_dict_pre_hook(_as_vectors)


def checkpoint_state(state_dict: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict of the model with the temperatures as checkpoints hold them."""
    names = training_family(model).zero_dimensional
    return {name: value.reshape(()) if name in names else value for name, value in state_dict.items()}


def _as_vectors(module: nn.Module, state_dict: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    for name in TEMPERATURES:
        if prefix + name in state_dict:
            state_dict[prefix + name] = state_dict[prefix + name].reshape(1)


class ClampTemperatures(TrainerCallback):
    """Keeps every inverse temperature at most `max_scale` (Radford et al., 2021: 100)."""

    def __init__(self, max_scale: float):
        self.limit = math.log(max_scale)

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, model: FGCLIPModel, **kwargs) -> None:
        for name in TEMPERATURES:
            getattr(model, name).clamp_(max=self.limit)
