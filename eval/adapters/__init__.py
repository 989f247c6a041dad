"""Models behind one interface. `adapter_for` wraps a model in memory, `load_adapter` a checkpoint."""

from __future__ import annotations

from typing import Any

from eval.adapters.base import ModelAdapter
from eval.adapters.fgclip import FGCLIPAdapter

__all__ = ["FGCLIPAdapter", "ModelAdapter", "adapter_for", "load_adapter"]


def adapter_for(model: Any, processor: Any, name: str | None = None) -> ModelAdapter:
    """The adapter of a transformers model in memory.

    Raises:
        ValueError: no processor, or a model that no adapter knows.
    """
    if processor is None:
        raise ValueError("a model in memory needs its processor (or pass a ModelAdapter, which has its own).")
    from modeling_fgclip import FGCLIPModel

    if isinstance(model, FGCLIPModel):
        return FGCLIPAdapter(model, processor, name or "FG-CLIP")
    raise ValueError(f"no adapter for {type(model).__name__}; write a subclass of eval.adapters.ModelAdapter.")


def load_adapter(
    checkpoint: str, name: str | None = None, revision: str | None = None, custom: str | None = None
) -> ModelAdapter:
    """The adapter of a checkpoint."""
    adapter = FGCLIPAdapter.from_pretrained(checkpoint, **({"revision": revision} if revision else {}))
    adapter.name = name or checkpoint
    return adapter
