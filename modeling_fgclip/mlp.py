"""CLIP's MLP with one operation for its activation.

Quick GELU is SiLU on a stretched axis: x σ(1.702 x) = silu(1.702 x) / 1.702. The factors are taken before and after the two
products, where tensors are a quarter as wide, so that of the wide ones SiLU alone works on, once, and the backward pass keeps two
instead of three. Float32 gives the same to its last digits; bfloat16 rounds once more, behind the second product.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPMLP

from .autocast import computed_in

STRETCH = 1.702


class FGCLIPMLP(CLIPMLP):
    """CLIP's own way wherever somebody changed a part of it, with another activation, and in float16, which would overflow sooner."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        parts_are_clips = _is_plain(self.fc1) and _is_plain(self.fc2) and _is_quick_gelu(self.activation_fn)
        if not parts_are_clips or computed_in(hidden_states) is torch.float16:
            return super().forward(hidden_states)
        inner = F.silu(F.linear(hidden_states * STRETCH, self.fc1.weight, self.fc1.bias * STRETCH))
        output = F.linear(inner, self.fc2.weight)
        return torch.add(self.fc2.bias.to(output.dtype), output, alpha=1 / STRETCH)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is its product and bias and nothing else: no adapter, no quantized weight."""
    is_linear = type(layer) is nn.Linear and layer.bias is not None and not is_traceable_wrapper_subclass(layer.weight)
    return is_linear and not _is_changed(layer)


def _is_quick_gelu(activation: nn.Module) -> bool:
    return type(activation) is QuickGELUActivation and not _is_changed(activation)


def _is_changed(module: nn.Module) -> bool:
    """Whether a call of the module would do more than its class says: hooks that look at it or fetch its weights, a kernel."""
    backward = module._backward_hooks or module._backward_pre_hooks
    return bool(module._forward_hooks or module._forward_pre_hooks or backward or "forward" in vars(module))


def take_mlps(encoder: nn.Module) -> None:
    """Makes the MLPs of a CLIP encoder this one. They stay the same objects, with their weights and what else is noted on them."""
    for layer in encoder.layers:
        if type(layer.mlp) is CLIPMLP:  # and no other that the user put in its place
            layer.mlp.__class__ = FGCLIPMLP


__all__ = ["FGCLIPMLP", "take_mlps"]
