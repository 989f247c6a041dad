"""Boxes: the checks and conversions that the model and the processor share."""

from collections.abc import Sequence
from typing import Any

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


def image_size(image: Any) -> tuple[int, int]:
    """(width, height) of a PIL image or a channels-first or -last array."""
    if hasattr(image, "getbands"):
        return image.size
    height, width = image.shape[-2:] if image.shape[0] in (1, 3) else image.shape[:2]
    return width, height


def boxes_of_images(
    sizes: Sequence[tuple[int, int]], boxes: Any, box_format: str = "pixel"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Checks the boxes that a user gives for N images.

    Args:
        sizes: (width, height) of each image.
        boxes: for each image its xyxy boxes.
        box_format: "pixel" (of the image) or "normalized" (0 to 1).

    Returns:
        (N, K, 4) normalized boxes, padded with zeros, and the (N, K) mask of true ones.
    """
    if box_format not in ("pixel", "normalized"):
        raise ValueError(f"Received box_format={box_format!r}; it is 'pixel' or 'normalized'.")
    if len(boxes) != len(sizes):
        raise ValueError(
            f"Received boxes for {len(boxes)} images and {len(sizes)} images; give one list of boxes an image, "
            "empty for an image without boxes."
        )
    prepared = []
    for size, image_boxes in zip(sizes, boxes, strict=True):
        image_boxes = torch.as_tensor(image_boxes, dtype=torch.float32)
        if image_boxes.numel() == 0:
            image_boxes = image_boxes.reshape(0, 4)
        if image_boxes.dim() != 2 or image_boxes.shape[1] != 4:
            raise ValueError(
                f"Received boxes of shape {tuple(image_boxes.shape)} for an image; they must be (K, 4): "
                "one (x1, y1, x2, y2) a box."
            )
        width, height = size if box_format == "pixel" else (1, 1)
        units = image_boxes.new_tensor([width, height, width, height])
        prepared.append(check_boxes(image_boxes, width, height) / units)
    return pad_boxes(prepared)


__all__ = ["boxes_of_images", "check_boxes", "image_size", "pad_boxes"]
