"""Zero-shot classification on ImageNet-v2, matched frequency (table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.tasks.base import register
from eval.tasks.imagenet import ImageNetTask


@register
@dataclass
class ImageNetV2(ImageNetTask):
    """10,000 images in folders that are named by the class index, so that "10" sorts before "2"."""

    name: ClassVar[str] = "imagenet_v2"
    wants: ClassVar[str] = """It wants
  DATA/imagenetv2-matched-frequency-format-val/0/*.jpeg … 999/     https://huggingface.co/datasets/vaishaal/ImageNetV2"""

    images: Path = Path("imagenetv2-matched-frequency-format-val")

    def labels_of_folders(self, folders: Sequence[str], classes: int) -> list[int]:
        """The number that is a folder's name.

        Raises:
            ValueError: other folders than 0, 1, … one for each class.
        """
        labels = {name: int(name) for name in folders if name.isdecimal()}
        if len(labels) < len(folders) or sorted(labels.values()) != list(range(classes)):
            strange = [name for name in folders if labels.get(name, classes) >= classes]
            raise ValueError(
                f"task {self.name}: {len(folders)} class folders, but there are {classes} class names; they must be called 0 to "
                f"{classes - 1}{f', not {strange[0]!r}' if strange else ''}.\n{self.wants}"
            )
        return [labels[name] for name in folders]
