"""What the caption retrieval tasks share: rows of an image and its captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dataset_scripts.formats.captions import Captioned, read_karpathy
from dataset_scripts.formats.coco import CocoImage
from eval.images import DatasetImage, ImageFile, ImageSource, inside
from eval.results import Result
from eval.tasks.base import Task
from eval.tasks.reading import at, shared_reader, text_of, texts_of
from eval.tasks.retrieval import retrieve

if TYPE_CHECKING:
    from eval.embed import Embedder

CaptionRows = list[tuple[ImageSource, list[str]]]


@dataclass
class CaptionTask(Task):
    """Image-text retrieval over images with their captions.

    Attributes:
        annotations: the file, relative to `data`. images: the folder of images, relative to `data`.
    """

    hub_task: ClassVar[str] = "zero-shot-retrieval"
    long: ClassVar[bool] = False
    as_written: ClassVar[bool] = False  # whether the protocol leaves upper-case letters
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
        images, captions = [image for image, _ in data], [captions for _, captions in data]
        return retrieve(self, embedder, images, captions, self.long, self.as_written)

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
                data.append((DatasetImage(rows, i), captions))
        return data

    def read_karpathy(self, file: Path, images: Path, captions: int = 5) -> CaptionRows:
        """The test images of a Karpathy split file, each with its first `captions` sentences."""
        with shared_reader(self) as report:
            entries = list(read_karpathy(file, ("test",), report))
        return [self.caption_row(entry, images, entry.path, entry.captions[:captions]) for entry in entries]

    def caption_row(
        self, entry: Captioned | CocoImage, images: Path, path: str, captions: list[Any]
    ) -> tuple[ImageSource, list[str]]:
        """One image below `images` with these captions.

        Raises:
            ValueError: a path that leaves the folder, or a caption that is no text; names the entry.
        """
        with at(self, entry.where):
            return ImageFile(inside(images, path)), texts_of(captions, "captions")
