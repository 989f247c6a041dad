"""Large-scale jitter (Ghiasi et al., 2021) as F-ViT uses it: another scale, a random window, a flip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class DetectionAugmentation:
    """Changes an image and its boxes alike; randomness is the caller's generator alone.

    Args:
        size: side in pixels of the square that images are padded to afterwards.
        min_scale, max_scale: the image fits `size` times a factor between these.
        flip: probability of a horizontal flip.
        min_box: boxes with a side below so many pixels are dropped.
    """

    size: int
    min_scale: float = 0.1
    max_scale: float = 2.0
    flip: float = 0.5
    min_box: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(f"scales must be above 0 and rising; received {self.min_scale} to {self.max_scale}.")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is a probability; received {self.flip}.")

    def __call__(
        self, image: Image.Image, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        """An RGB image with (K, 4) xyxy boxes in pixels → `image` (3, h, w) in 0 to 1, no side above `size`; `boxes`
        and `labels` of what is left, maybe nothing (F-ViT's allow_negative_crop).
        """
        scale = rng.uniform(self.min_scale, self.max_scale) * self.size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        left, top = (int(rng.integers(0, max(0, side - self.size) + 1)) for side in (width, height))
        window = (left, top, min(left + self.size, width), min(top + self.size, height))
        # One resampling of the window alone: the scaled image can be four times as large.
        factor = np.array([image.width / width, image.height / height] * 2)
        columns, rows = window[2] - window[0], window[3] - window[1]
        picture = image.resize((columns, rows), Image.Resampling.BILINEAR, tuple((np.array(window) * factor).tolist()))
        boxes = boxes / factor - [left, top, left, top]
        boxes = boxes.clip(0, [columns, rows, columns, rows])
        if rng.random() < self.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            boxes = np.stack([columns - boxes[:, 2], boxes[:, 1], columns - boxes[:, 0], boxes[:, 3]], axis=1)
        kept = (boxes[:, 2:] - boxes[:, :2] >= self.min_box).all(axis=1)
        return {
            "image": torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255,
            "boxes": torch.from_numpy(boxes[kept].astype(np.float32)),
            "labels": torch.from_numpy(labels[kept]),
        }
