"""Zero-shot classification on ImageNet-1K (table 4), and the shared protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dataset_scripts.paths import IMAGE_SUFFIXES
from eval.images import DatasetImage, ImageFile, ImageSource
from eval.prompts import imagenet_names, imagenet_wnids, templates_named, text_lines
from eval.results import Result
from eval.scoring import add_class_scores, class_ranks
from eval.tasks.base import Task, register, require_some
from eval.tasks.boxes import class_embeddings

if TYPE_CHECKING:
    from eval.embed import Embedder

WNID = re.compile(r"n\d{8}")


@dataclass
class LabelledImages:
    """Images with a class each, and all else that decides a score.

    Attributes:
        images: N sources. labels: (N,) class indices. names: the names of the C classes. templates: the prompt templates.
    """

    images: list[ImageSource]
    labels: np.ndarray
    names: list[str]
    templates: list[str]


@dataclass
class ImageNetTask(Task):
    """Top-1 and top-5 of 1,000 classes with OpenAI's names and prompt ensemble (Radford et al., 2021).

    Two pairs of OpenAI's names are the same word ("missile", "sunglasses"); their images tie and count as wrong, at
    most 0.4 %. Counting ties as right gives `value + ties / count`.

    Attributes:
        images: folder with one sub-folder a class, relative to `data`.
        templates: bare, plain, openai7, openai80, or a text file with one template a line.
        names: a text file with one class name a line, instead of OpenAI's 1,000; in the order of the sorted folders (by number
            where all folders are numbers).
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
        return text_lines(Path(self.names))

    def labels_of_folders(self, folders: Sequence[str], classes: int) -> list[int]:
        """The class of every sub-folder: its place among the WordNet ids, or in the order of one's own `names`.

        Raises:
            ValueError: with OpenAI's names, folders that are not the 1,000 WordNet ids; with one's own, another number of folders
                than names, or folders without a clear order.
        """
        if not self.names:
            require_wnids(self, folders)
            return ordered_places(self, folders)
        if len(folders) != classes:
            raise ValueError(
                f"task {self.name}: {self.data / self.images} has {len(folders)} class folders, but {self.names} has {classes} class "
                f"names; labels would shift.\n{self.wants}"
            )
        return ordered_places(self, folders)

    def load(self) -> LabelledImages:
        names = self.class_names()
        images, labels = self._hub_images() if self.hub else self._folder_images(len(names))
        wrong = [label for label in labels if not isinstance(label, int) or not 0 <= label < len(names)]
        if wrong or not labels:
            found = f"labels outside 0…{len(names) - 1} (the first: {wrong[0]!r})" if wrong else "no image"
            raise ValueError(f"task {self.name}: {found} in {self.hub or self.data / self.images}.\n{self.wants}")
        return LabelledImages(images, np.array(labels, np.int64), names, templates_named(self.templates))

    def _hub_images(self) -> tuple[list[ImageSource], list[int]]:
        rows = self.hub_rows(["image", "label"])
        known = getattr(rows.features["label"], "names", None) or []
        if not self.names and any(WNID.fullmatch(name) for name in known):
            require_wnids(self, known)
            if known != sorted(known):
                raise ValueError(
                    f"task {self.name}: the labels of {self.hub} are not in the order of the WordNet ids."
                )
        classes = len(self.class_names())
        if known and len(known) != classes:
            raise ValueError(
                f"task {self.name}: {self.hub} has {len(known)} classes ({', '.join(known[:3])} …), but there are {classes} class "
                "names; labels would shift. Pass the names of its classes, one a line (names=FILE)."
            )
        return [DatasetImage(rows, i) for i in range(len(rows))], list(rows["label"])

    def _folder_images(self, classes: int) -> tuple[list[ImageSource], list[int]]:
        root = self.path(self.images, what="folder of images")
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir())
        images: list[ImageSource] = []
        labels: list[int] = []
        for folder, label in zip(folders, self.labels_of_folders([f.name for f in folders], classes), strict=True):
            files = sorted(file for file in folder.iterdir() if file.suffix[1:].lower() in IMAGE_SUFFIXES)
            images += [ImageFile(file) for file in files]
            labels += [label] * len(files)
        return images, labels

    def images_of(self, data: LabelledImages) -> list[ImageSource]:
        return data.images

    def score(self, embedder: Embedder, data: LabelledImages) -> Result:
        classes = class_embeddings(embedder, [[name] for name in data.names], data.templates)
        features, valid = embedder.images(data.images, for_classes=True)
        require_some(self, valid)
        labels = data.labels[valid]
        better, tied = class_ranks(features[valid], classes, labels)
        templates = f"{self.templates} ({len(data.templates)})"
        settings = {"text": "short", "templates": templates} | embedder.adapter.settings_for_classes()
        result = Result(self.name, {}, settings=settings)
        add_class_scores(result, better, tied, labels, len(data.names), np.arange(len(labels)), class_mean=False)
        result.data = {"images": len(labels), "classes": len(data.names), "images_left_out": int((~valid).sum())}
        return result


def require_wnids(task: Task, found: Sequence[str]) -> None:
    """OpenAI's names belong to ImageNet's 1,000 WordNet ids; other classes would get their names all the same.

    Raises:
        ValueError: other ids; names some.
    """
    known = imagenet_wnids()
    missing, unexpected = sorted(set(known) - set(found)), sorted(set(found) - set(known))
    if missing or unexpected:
        raise ValueError(
            f"task {task.name}: has {len(found)} classes, but OpenAI's class names are those of ImageNet's {len(known):,} WordNet ids: "
            f"{_shown(missing)} missing, {_shown(unexpected)} unexpected. Complete the folders, or for other or fewer classes pass "
            f"their names (names=FILE).\n{task.wants}"
        )


def ordered_places(task: Task, folders: Sequence[str]) -> list[int]:
    """The place of every folder in the order of the class names: by number where all are numbers, else as text.

    Raises:
        ValueError: some are numbers and others not, or two are the same number.
    """
    numbers = [int(name) for name in folders if name.isdecimal()]
    if numbers and (len(numbers) < len(folders) or len(set(numbers)) < len(numbers)):
        raise ValueError(
            f"task {task.name}: the class folders have no clear order: {len(numbers)} of {len(folders)} are numbers"
            f"{', some of them twice' if len(set(numbers)) < len(numbers) else ''}. Name all by number or none."
        )
    order = sorted(folders, key=int) if numbers else sorted(folders)
    place = {name: i for i, name in enumerate(order)}
    return [place[name] for name in folders]


def _shown(names: Sequence[str]) -> str:
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} ({', '.join(names[:3])}{more})" if names else "none"


@register
@dataclass
class ImageNet(ImageNetTask):
    """The 50,000 validation images."""

    name: ClassVar[str] = "imagenet"
    wants: ClassVar[str] = """It wants
  DATA/imagenet/val/n01440764/*.JPEG …    the validation images, one folder a WordNet id: https://image-net.org/download-images"""

    images: Path = Path("imagenet/val")
