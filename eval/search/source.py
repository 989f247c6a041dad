"""What is embedded: the images of a folder, or of a data set of the Hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_scripts.paths import image_files
from eval.images import DatasetImage, ImageFile, ImageSource


@dataclass(frozen=True)
class Collection:
    """Images in a fixed order, each with the name that a search result shows."""

    name: str
    names: Sequence[str]
    images: Sequence[ImageSource]

    def digest(self, start: int, end: int) -> str:
        """Changes whenever one of these images does, so that embeddings made of an earlier one are noticed; not when the whole
        folder is moved.
        """
        lines = "\n".join(map(_identity, self.names[start:end], self.images[start:end]))
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:32]


def _identity(name: str, image: ImageSource) -> str:
    identity = image.identity()
    return name + identity.removeprefix(str(image.path)) if isinstance(image, ImageFile) else identity


def open_collection(
    source: str, split: str = "train", column: str = "image", revision: str | None = None
) -> Collection:
    """A folder (searched recursively, in the order of the names), or `user/name` on the Hub.

    Raises:
        ValueError: for a folder without images, and for a data set without that split or column.
    """
    if Path(source).is_dir():
        root = Path(os.path.abspath(source))  # images keep their identity, whatever folder the command is run from
        paths = image_files(root)
        return Collection(root.name, [str(p.relative_to(root)) for p in paths], [ImageFile(p) for p in paths])
    from datasets import load_dataset

    try:
        dataset = load_dataset(source, split=split, revision=revision)
    except FileNotFoundError:
        raise ValueError(f"{source!r} is neither a folder nor a data set that can be loaded.") from None
    if column not in dataset.column_names:
        raise ValueError(
            f"{source} has no column {column!r}; it has {', '.join(dataset.column_names)}. Pass --column."
        )
    images = [DatasetImage(dataset, row, column) for row in range(len(dataset))]
    return Collection(source, [str(row) for row in range(len(dataset))], images)


def slices(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive shards."""
    for start in range(0, count, size):
        yield start, min(start + size, count)
