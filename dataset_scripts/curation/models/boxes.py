"""Boxes as x1, y1, x2, y2 in fractions of the image: overlap, suppression, size filters. No compiled operator needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two xyxy boxes; 0 where both are empty."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    intersection = max(0.0, width) * max(0.0, height)
    union = _area(first) + _area(second) - intersection
    return intersection / union if union > 0 else 0.0


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def pairwise_iou(boxes: torch.Tensor) -> torch.Tensor:
    """(N, 4) xyxy → (N, N)."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    union = area[:, None] + area[None, :] - intersection
    return torch.where(union > 0, intersection / union, torch.zeros_like(union))


def non_maximum_suppression(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """Greedy NMS: indices kept, by falling score; a box goes where a kept one overlaps it by more than `threshold`.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,). Equal scores keep their order.
        threshold: IoU, 0 to 1.
    """
    overlap = pairwise_iou(boxes)
    kept: list[int] = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if not kept or float(overlap[i, kept].max()) <= threshold:
            kept.append(i)
    return kept
