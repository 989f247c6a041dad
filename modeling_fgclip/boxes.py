"""Boxes: the checks and conversions that the model and the processor share."""

from collections.abc import Sequence

import torch

# Boxes are rounded when they are written: 1.0001 of an image is its border, not a mistake.
ROUNDING = 1e-3

BoxList = Sequence[torch.Tensor]


def check_boxes(boxes: torch.Tensor, width: float = 1.0, height: float = 1.0) -> torch.Tensor:
    """Checks (..., 4) xyxy boxes against an image of `width` x `height` and clips away rounding.

    Raises:
        ValueError: for a NaN, an inverted or an empty box, and for one that leaves the image.
    """
    size = boxes.new_tensor([width, height, width, height])
    problems = {
        "a coordinate that is not finite": ~boxes.isfinite(),
        "x2 <= x1 or y2 <= y1 (inverted or empty)": boxes[..., 2:] <= boxes[..., :2],
        f"a corner outside the image of {width:g} x {height:g}": (boxes < -ROUNDING * size)
        | (boxes > (1 + ROUNDING) * size),
    }
    for problem, found in problems.items():
        if found.any():
            box = boxes[found.any(-1)][0].tolist()
            raise ValueError(
                f"Received the box {box} with {problem}. Boxes are (x1, y1, x2, y2) with x1 < x2 and y1 < y2, inside "
                "the image: clip or drop the box, convert (x, y, width, height) first, and check whether the boxes "
                "are in pixels or normalized to [0, 1]."
            )
    return torch.minimum(boxes.clamp(min=0), size)


def pad_boxes(boxes: BoxList) -> tuple[torch.Tensor, torch.Tensor]:
    """Pads N lists of (K_i, 4) boxes to (N, K, 4) with zeros, and returns the (N, K) mask of true ones."""
    most = max((len(image_boxes) for image_boxes in boxes), default=0)
    padded = torch.zeros(len(boxes), most, 4)
    mask = torch.zeros(len(boxes), most, dtype=torch.bool)
    for index, image_boxes in enumerate(boxes):
        padded[index, : len(image_boxes)] = image_boxes
        mask[index, : len(image_boxes)] = True
    return padded, mask


__all__ = ["check_boxes", "pad_boxes"]
