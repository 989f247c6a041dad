"""CLIP's MLP with one operation for its activation.

Quick GELU is SiLU on a stretched axis: x σ(1.702 x) = silu(1.702 x) / 1.702. The factors are taken before and after the two
products, where tensors are a quarter as wide, so that of the wide ones SiLU alone works on, once, and the backward pass keeps two
instead of three.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers.models.clip.modeling_clip import CLIPMLP

STRETCH = 1.702


class FGCLIPMLP(CLIPMLP):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.config.hidden_act != "quick_gelu" or not (_is_plain(self.fc1) and _is_plain(self.fc2)):
            return super().forward(hidden_states)
        inner = F.silu(F.linear(hidden_states * STRETCH, self.fc1.weight, self.fc1.bias * STRETCH))
        output = F.linear(inner, self.fc2.weight)
        return torch.add(self.fc2.bias.to(output.dtype), output, alpha=1 / STRETCH)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is its product and nothing else: no adapter, no hook that fetches weights, no quantized weight."""
    changed = layer._forward_pre_hooks or layer._forward_hooks or "forward" in vars(layer)
    return type(layer) is nn.Linear and not changed and not is_traceable_wrapper_subclass(layer.weight)


def take_mlps(encoder: nn.Module) -> None:
    """Makes the MLPs of a CLIP encoder this one. They stay the same objects, with their weights and what else is noted on them."""
    for layer in encoder.layers:
        layer.mlp.__class__ = FGCLIPMLP


__all__ = ["FGCLIPMLP", "take_mlps"]
