"""A device without hardware: its tensors are fake, its autocast casts what CUDA's does, its attention is a flash kernel.

PyTorch's slot for foreign backends (`PrivateUse1`), set up once a process and for good, so that only processes of their
own import this module. Within `FakeTensorMode` every operation checks that its tensors are on one device, in the
backward pass too, which fake `cuda` tensors only have beside a GPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch._C import DispatchKey, DispatchKeySet
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

DEVICE = "simulated"

# CUDA's lists (torch/csrc/../aten/src/ATen/autocast_mode.h), as far as our models use them.
HALF = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "conv2d", "scaled_dot_product_attention")
FULL = ("layer_norm", "softmax.int", "log_softmax.int", "cross_entropy_loss", "exp", "norm.ScalarOpt_dim", "cumsum")

_setup_privateuseone_for_python_backend(DEVICE)
_module = torch.get_device_module(DEVICE)
_module.get_amp_supported_dtype = lambda: [torch.bfloat16]
_module.is_available = lambda: False  # so that constants, too, stay fake on it
# It has no random numbers of its own.
_module.get_rng_state = lambda device: torch.get_rng_state()
_module.set_rng_state = lambda state, device: torch.set_rng_state(state)

_AUTOCAST = DispatchKeySet(DispatchKey.AutocastPrivateUse1)
_everything = torch.library.Library("_", "IMPL")
_everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_aten = torch.library.Library("aten", "IMPL")


def _cast(operation: Callable, dtype: torch.dtype) -> Callable:
    def cast(value: Any) -> Any:
        floats = isinstance(value, torch.Tensor) and value.is_floating_point() and value.device.type == DEVICE
        return value.to(dtype) if floats else value

    def call(*arguments: Any, **settings: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            return operation(*map(cast, arguments), **{name: cast(value) for name, value in settings.items()})

    return call


def _register(names: tuple[str, ...], dtype: torch.dtype) -> None:
    for name in names:
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
        _aten.impl(name, _cast(operation, dtype), "AutocastPrivateUse1")


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    if attn_mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )[0]
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, query.requires_grad, dropout_p, is_causal, scale=scale
    )[0]


_register(HALF, torch.bfloat16)
_register(FULL, torch.float32)
_aten.impl("scaled_dot_product_attention", _attention, "AutogradPrivateUse1")
_aten.impl("scaled_dot_product_attention", _attention, "PrivateUse1")
# CUDA has a kernel; other backends put it together of several operations.
_aten.impl("silu_backward", lambda gradient, states: torch.empty_like(gradient), "PrivateUse1")
