"""Boxes of base classes as training examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from dataset_scripts.ov_coco import DetectionData
from dataset_scripts.upright import turn_box, turn_of_boxes
from eval.images import ImageFile, inside

from .augmentation import DetectionAugmentation


class DetectionExamples(Dataset):
    """Images with the boxes of the base classes; crowds are left out.

    Randomness is a function of the seed, the draw (epoch) and the image's place, so that a resumed run sees what an
    uninterrupted one would.

    Args:
        data: read for the base classes alone.
        folder: of the images.
        augmentation: jitter, window and flip.
        seed: of the augmentation.
    """

    def __init__(self, data: DetectionData, folder: Path, augmentation: DetectionAugmentation, seed: int = 0):
        self.images = [image for image in data.images if (~image.crowd).any()]
        self.paths = [inside(folder, image.path) for image in self.images]
        self.classes, self.augmentation, self.seed = len(data.category_ids), augmentation, seed
        for image, path in zip(self.images, self.paths, strict=True):
            if not path.is_file():
                raise ValueError(f"{path}, an image of the annotations, is not there; check the folder of images.")
            if len(image.labels) and not 0 <= image.labels.min() <= image.labels.max() < self.classes:
                raise ValueError(
                    f"{image.path} has boxes of classes that are not base classes; a detector that saw novel boxes is not "
                    "open-vocabulary. Read the data for the base classes alone."
                )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, file = self.images[index], ImageFile(self.paths[index])
        picture = file.open()
        try:
            turn = turn_of_boxes(file.header(), image.size)
        except ValueError as error:
            raise ValueError(f"{file.path}: {error}") from None
        boxes = [turn_box(box, turn) for box in (image.boxes / (image.size * 2)).tolist()]
        kept = ~image.crowd
        pixels = np.array(boxes, np.float32).reshape(-1, 4) * (picture.size * 2)
        return {"picture": picture, "boxes": pixels[kept], "labels": image.labels[kept], "index": index}

    def collate(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Records with their `draw` → `images` and `targets` of [`OpenVocabularyDetector`], labels from 1."""
        images, targets = [], []
        for record in records:
            rng = np.random.default_rng([self.seed, record["draw"], record["index"]])
            one = self.augmentation(record["picture"], record["boxes"], record["labels"], rng)
            images.append(one["image"])
            targets.append({"boxes": one["boxes"], "labels": one["labels"] + 1})
        return {"images": images, "targets": targets}


def check_base_boxes(data: DetectionData) -> torch.Tensor:
    """(C,) boxes of each class in training.

    Raises:
        ValueError: there is none at all.
    """
    counts = np.zeros(len(data.category_ids), np.int64)
    for image in data.images:
        np.add.at(counts, image.labels[~image.crowd], 1)
    if not counts.sum():
        raise ValueError("the training data hold no box of a base class that is not a crowd; nothing can be learned.")
    return torch.from_numpy(counts)
