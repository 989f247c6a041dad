"""What the methods for one modality are called with: all that the processor made, of which each takes its own."""

from typing import Any

import torch

# What `FGCLIPProcessor` and `FGCLIPModel.forward` name besides.
_INPUTS = {
    "input_ids",
    "pixel_values",
    "attention_mask",
    "boxes",
    "box_mask",
    "walk_short_pos",
    "interpolate_pos_encoding",
}


def check_others(others: dict[str, Any]) -> None:
    if unknown := sorted(others.keys() - _INPUTS):
        raise TypeError(f"got unexpected keyword arguments {unknown}")


def require(value: torch.Tensor | None, name: str, method: str) -> None:
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{method} needs the tensor {name}, got {type(value).__name__}; `FGCLIPProcessor` makes it.")


__all__ = ["check_others", "require"]
