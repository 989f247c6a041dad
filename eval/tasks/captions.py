"""What the caption retrieval tasks share: rows of an image and its captions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from eval.embed import Embedder
from eval.images import DatasetImage, ImageFile, ImageSource, inside
from eval.results import Result
from eval.tasks.base import Task
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
        texts = [[value] if isinstance(value, str) else list(value) for value in rows[column]]
        return [(DatasetImage(rows, i), captions) for i, captions in enumerate(texts)]

    def read_karpathy(self, file: Path, images: Path, captions: int = 5) -> CaptionRows:
        """The test images of a Karpathy split file, each with its first `captions` sentences."""
        content = read_json(self, file)
        try:
            return [
                (
                    ImageFile(inside(images, str(Path(entry.get("filepath", "")) / entry["filename"]))),
                    [sentence["raw"] for sentence in entry["sentences"][:captions]],
                )
                for entry in content["images"]
                if entry["split"] == "test"
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is not a Karpathy split file ({type(error).__name__}: {error}).\n{self.wants}"
            ) from None


def read_json(task: Task, file: Path) -> Any:
    """A JSON file.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"task {task.name}: {file} is not JSON ({error}); download it again.") from None
