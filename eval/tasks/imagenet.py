"""Zero-shot classification on ImageNet-1K (table 4), and the shared protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from eval.embed import Embedder
from eval.images import DatasetImage, ImageFile, ImageSource
from eval.prompts import imagenet_names, templates_named
from eval.results import Result
from eval.scoring import add_class_scores, class_ranks
from eval.tasks.base import Task, register, require_some
from eval.tasks.boxes import class_embeddings

IMAGE_SUFFIXES = {".jpeg", ".jpg", ".png"}
LabelledImages = list[tuple[ImageSource, int]]


@dataclass
class ImageNetTask(Task):
    """Top-1 and top-5 of 1,000 classes with OpenAI's names and prompt ensemble (Radford et al., 2021).

    Two pairs of OpenAI's names are the same word ("missile", "sunglasses"); their images tie and count as wrong, at
    most 0.4 %. Counting ties as right gives `value + ties / count`.

    Attributes:
        images: folder with one sub-folder a class, relative to `data`.
        templates: plain, openai7, openai80, or a text file with one template a line.
        names: a text file with one class name a line, instead of OpenAI's 1,000; in the order of the sorted folders.
    """

    columns: ClassVar[str] = "It needs image and label (0 to 999, in the order of the sorted WordNet ids)."

    images: Path = Path()
    templates: str = "openai80"
    names: str = ""

    def class_names(self) -> list[str]:
        if not self.names:
            return imagenet_names()
        if not Path(self.names).is_file():
            raise ValueError(f"{self.name}.names must be a text file with one class name a line; got {self.names!r}.")
        return [line for line in Path(self.names).read_text(encoding="utf-8").splitlines() if line.strip()]

    def label_of_folder(self, name: str, place: int) -> int:
        """The class of a sub-folder: its place among the sorted names (WordNet ids)."""
        return place

    def load(self) -> LabelledImages:
        classes = len(self.class_names())
        if self.hub:
            rows = self.hub_rows(["image", "label"])
            data: LabelledImages = [(DatasetImage(rows, i), label) for i, label in enumerate(rows["label"])]
        else:
            root = self.path(self.images, what="folder of images")
            folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
            if len(folders) != classes:
                raise ValueError(
                    f"task {self.name}: {root} has {len(folders)} class folders, but there are {classes} class names; labels would shift.\n{self.wants}"
                )
            data = [
                (ImageFile(file), self.label_of_folder(folder.name, place))
                for place, folder in enumerate(folders)
                for file in sorted(folder.iterdir())
                if file.suffix.lower() in IMAGE_SUFFIXES
            ]
        if not data or not all(0 <= label < classes for _, label in data):
            raise ValueError(f"task {self.name}: no image, or labels outside 0…{classes - 1}.\n{self.wants}")
        return data

    def images_of(self, data: LabelledImages) -> list[ImageSource]:
        return [image for image, _ in data]

    def score(self, embedder: Embedder, data: LabelledImages) -> Result:
        prompts = templates_named(self.templates)
        names = self.class_names()
        classes = class_embeddings(embedder, [[name] for name in names], prompts)
        features, valid = embedder.images([image for image, _ in data])
        require_some(self, valid)
        labels = np.array([label for _, label in data])[valid]
        better, tied = class_ranks(features[torch.from_numpy(valid)], classes, labels)
        result = Result(self.name, {}, settings={"text": "short", "templates": f"{self.templates} ({len(prompts)})"})
        add_class_scores(result, better, tied, labels, len(names), np.arange(len(labels)), class_mean=False)
        result.data = {"images": len(labels), "classes": len(names), "images_left_out": int((~valid).sum())}
        return result


@register
@dataclass
class ImageNet(ImageNetTask):
    """The 50,000 validation images."""

    name: ClassVar[str] = "imagenet"
    wants: ClassVar[str] = """It wants
  DATA/imagenet/val/n01440764/*.JPEG …    the validation images, one folder a WordNet id: https://image-net.org/download-images"""

    images: Path = Path("imagenet/val")
