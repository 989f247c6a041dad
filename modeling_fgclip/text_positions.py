"""Positions for long text, made from those of short text."""

import torch


def stretch_positions(positions: torch.Tensor, kept: int = 20, stretch: int = 4) -> torch.Tensor:
    """Stretches a table of positions for long text (paper, section 3.1, after Long-CLIP).

    The first `kept` rows stay; each later row is followed by `stretch - 1` interpolated ones, the last by
    extrapolated ones: (77, D) becomes (20 + 4 * 57 = 248, D).
    """
    tail = positions[kept:]
    following = torch.cat([tail[1:], 2 * positions[-1:] - positions[-2:-1]])
    fraction = torch.arange(stretch, device=positions.device, dtype=positions.dtype)[None, :, None] / stretch
    stretched = tail.unsqueeze(1) + fraction * (following - tail).unsqueeze(1)  # (77 - kept, stretch, D)
    return torch.cat([positions[:kept], stretched.flatten(0, 1)])


__all__ = ["stretch_positions"]
