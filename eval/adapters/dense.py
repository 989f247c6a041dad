"""Dense features of any vision transformer: the last block without attention (after MaskCLIP, Zhou et al., 2022).

One trick serves every architecture: a sequence of one token attends to nothing but itself, with weight 1. Running a block
on every token alone is therefore its value path, residuals and MLP, whatever the block's attention looks like inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

KIND = "last block without attention"


class _Found(Exception):
    """Ends a forward pass at the last block; carries what would have gone in."""

    def __init__(self, hidden: Tensor):
        self.hidden = hidden


def input_of(block: nn.Module, forward: Callable[[], Any]) -> Tensor:
    """What `forward` feeds into `block`; nothing behind the block is computed.

    Raises:
        ValueError: `forward` never reaches the block.
    """

    def stop(module: nn.Module, args: tuple, kwargs: dict) -> None:
        raise _Found(args[0] if args else kwargs["hidden_states"])

    handle = block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        forward()
    except _Found as found:
        return found.hidden
    finally:
        handle.remove()
    raise ValueError(f"the model's forward never calls {type(block).__name__}; write encode_dense for it.")


def each_token_alone(block: Callable[[Tensor], Any], tokens: Tensor) -> Tensor:
    """Apply a block to every token as a sequence of its own.

    Args:
        block: (B, 1, D) → (B, 1, D) or (B, D), or a tuple that starts with it.
        tokens: (N, L, D).
    Returns:
        (N, L, D).
    """
    out = block(tokens.reshape(-1, 1, tokens.shape[-1]))
    out = out[0] if isinstance(out, tuple) else out
    return out.reshape(*tokens.shape[:2], -1)


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(N, h·w, D) → (N, h, w, D)."""
    return tokens.unflatten(1, (height, width))
