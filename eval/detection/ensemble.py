"""Scores of the detector and of the frozen encoder, joined (F-ViT, after Kuo et al., 2023)."""

from __future__ import annotations

import torch


def ensemble(
    detector: torch.Tensor, encoder: torch.Tensor, is_base: torch.Tensor, base_weight: float, novel_weight: float
) -> torch.Tensor:
    """Geometric mean p_detector^(1 - w) · p_encoder^w, with one weight w for base and another for novel classes.

    Not normalized again: the result is a score, not a distribution.

    Args:
        detector, encoder: (K, 1 + C) logits of background and classes.
        is_base: (C,) booleans.
        base_weight, novel_weight: the encoder's share, alpha and beta.

    Returns:
        (K, C) scores in [0, 1], without the background.
    """
    weight = torch.where(is_base, base_weight, novel_weight)  # (C,)
    log_detector, log_encoder = (logits.float().log_softmax(-1)[:, 1:] for logits in (detector, encoder))
    return ((1 - weight) * log_detector + weight * log_encoder).exp()
