"""What the caption retrieval tasks share: rows of an image and its captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eval.embed import Embedder
from eval.images import DatasetImage, ImageFile, ImageSource, inside
from eval.results import Result
from eval.tasks.base import Task
from eval.tasks.reading import at, read_json, text_of, texts_of
from eval.tasks.retrieval import retrieve

CaptionRows = list[tuple[ImageSource, list[str]]]


@dataclass
class CaptionTask(Task):
    """Image-text retrieval over images with their captions.

    Attributes:
        annotations: the file, relative to `data`. images: the folder of images, relative to `data`.
    """

    long: ClassVar[bool] = False
    columns: ClassVar[str] = "It needs image, and caption (a string) or captions (a list of strings)."

    annotations: Path = Path()
    images: Path = Path()

    def load(self) -> CaptionRows:
        rows = self.hub_captions() if self.hub else self.read()
        bare = sum(not captions for _, captions in rows)
        if bare or not rows:
            raise ValueError(f"task {self.name}: {bare or 'all'} of {len(rows)} images have no caption.\n{self.wants}")
        return rows

    def read(self) -> CaptionRows:
        """The task's own files."""
        raise NotImplementedError

    def images_of(self, data: CaptionRows) -> list[ImageSource]:
        return [image for image, _ in data]

    def score(self, embedder: Embedder, data: CaptionRows) -> Result:
        return retrieve(self, embedder, [image for image, _ in data], [captions for _, captions in data], self.long)

    def hub_captions(self) -> CaptionRows:
        """Rows of a data set with a column of images and one of captions."""
        rows = self.hub_rows(["image"])
        column = next((name for name in ("captions", "caption") if name in rows.column_names), None)
        if column is None:
            raise ValueError(
                f"task {self.name}: {self.hub} has the columns {', '.join(rows.column_names)}. {self.columns}"
            )
        data: CaptionRows = []
        for i, row in enumerate(rows.select_columns([column])):
            with at(self, f"{self.hub}, row {i}"):
                value = row[column]
                captions = [text_of(value, column)] if column == "caption" else texts_of(value, column)
                data.append((DatasetImage(rows, i, upright=False), captions))
        return data

    def read_karpathy(self, file: Path, images: Path, captions: int = 5) -> CaptionRows:
        """The test images of a Karpathy split file, each with its first `captions` sentences."""
        content = read_json(self, file)
        with at(self, str(file), "is not a Karpathy split file"):
            entries = list(content["images"])
        rows: CaptionRows = []
        for number, entry in enumerate(entries):
            with at(self, f"{file}, images[{number}]", "is not of a Karpathy split file"):
                if entry["split"] == "test":
                    folder = f"{entry['filepath']}/" if entry.get("filepath") else ""
                    image = ImageFile(inside(images, f"{folder}{entry['filename']}"), upright=False)
                    sentences = [sentence["raw"] for sentence in entry["sentences"][:captions]]
                    rows.append((image, texts_of(sentences, "sentences")))
        return rows
