"""Detections in images, as COCO's results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from dataset_scripts.progress import progress_bar
from eval.detection.detector import OpenVocabularyDetector
from eval.images import ImageSource


def to_tensor(image: Image.Image) -> torch.Tensor:
    """An RGB picture as (3, height, width) float32 in 0 to 1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@torch.no_grad()
def predict(
    detector: OpenVocabularyDetector, images: Sequence[ImageSource], batch_size: int = 1, progress: bool = True
) -> Iterator[dict[str, torch.Tensor]]:
    """Boxes, labels (from 0) and scores of each image, in its own pixels, on the CPU.

    Raises:
        UnreadableImage: an image is missing or broken.
    """
    device = next(detector.rpn.parameters()).device
    detector.eval()
    starts = range(0, len(images), batch_size)
    for start in progress_bar(starts, desc="detecting", unit="batch", disable=not progress):
        batch = [to_tensor(image.open()).to(device) for image in images[start : start + batch_size]]
        for found in detector(batch):
            found = {name: value.cpu() for name, value in found.items()}
            yield {**found, "labels": found["labels"] - 1}


def coco_results(found: dict[str, torch.Tensor], image_id: Any, category_ids: Sequence[Any]) -> list[dict[str, Any]]:
    """Detections of an image in COCO's results format."""
    boxes = found["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [round(value, 3) for value in box],
            "score": score,
        }
        for box, label, score in rows
    ]
