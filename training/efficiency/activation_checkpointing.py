"""Gradient checkpointing that keeps what is small and dear to compute again, and drops the rest.

Of a block, attention and the products as wide as the model are kept; in the backward pass the product that widens for
the MLP, norms, activation functions and sums are computed again. A block then keeps 6 numbers for each of a token's
dimensions instead of some 20, for a ninth more work in products; gradient checkpointing of whole blocks keeps 1 for a
third more (Korthikanti et al., 2022, on what is worth keeping).
"""

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

ATTENTION = {
    getattr(torch.ops.aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    )
}
# Attention without a fused kernel.
ATTENTION.add(torch.ops.aten.bmm.default)
LINEAR = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


def _policy(_context: Any, operation: Any, *arguments: Any, **_settings: Any) -> CheckpointPolicy:
    if operation in ATTENTION or "varlen_attn" in str(operation):
        return CheckpointPolicy.MUST_SAVE
    if operation in LINEAR:
        inner, outer = arguments[-1].shape
        # The MLP's first is four times as wide as all others; what leaves its second, nothing in the block reads.
        return CheckpointPolicy.MUST_SAVE if inner == outer else CheckpointPolicy.PREFER_RECOMPUTE
    return CheckpointPolicy.PREFER_RECOMPUTE


def checkpoint_selectively(model: PreTrainedModel) -> None:
    """Turns it on for every block of the encoders."""
    context = partial(create_selective_checkpoint_contexts, _policy)
    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": context})
