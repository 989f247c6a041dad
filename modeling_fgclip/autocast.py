"""What products are computed in."""

import torch


def computed_in(states: torch.Tensor) -> torch.dtype:
    """The type that a product of these states has: autocast's where it is on, else their own."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


__all__ = ["computed_in"]
