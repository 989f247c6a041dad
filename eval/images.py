"""Where an image comes from: a file, a row of a `datasets` data set, or memory. Opened in the loading workers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError


class UnreadableImage(ValueError):
    """An image that is missing or that no decoder reads."""


class ImageSource(Protocol):
    """What a task hands to the embedder for each image."""

    def open(self) -> Image.Image:
        """The image in RGB.

        Raises:
            UnreadableImage: missing or broken.
        """

    def identity(self) -> str:
        """Changes whenever the image does; keys the feature cache."""


@dataclass(frozen=True)
class ImageFile:
    """An image on disk."""

    path: Path

    def open(self) -> Image.Image:
        try:
            with Image.open(self.path) as image:
                return image.convert("RGB")
        except FileNotFoundError:
            raise UnreadableImage(f"{self.path} does not exist") from None
        except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableImage(f"{self.path} cannot be decoded ({error})") from None

    def exists(self) -> bool:
        return self.path.is_file()

    def identity(self) -> str:
        status = self.path.stat() if self.path.exists() else None
        return f"{self.path}:{status.st_size}:{status.st_mtime_ns}" if status else f"{self.path}:missing"


@dataclass(frozen=True)
class DatasetImage:
    """One row of a map-style `datasets` data set with a column of images."""

    dataset: Any
    index: int
    column: str = "image"

    def open(self) -> Image.Image:
        try:
            image = self.dataset[self.index][self.column]
        except (OSError, UnidentifiedImageError) as error:
            raise UnreadableImage(f"row {self.index} of the data set cannot be decoded ({error})") from None
        if image is None:
            raise UnreadableImage(f"row {self.index} of the data set has no image")
        return image.convert("RGB")

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return f"{self.dataset._fingerprint}:{self.index}:{self.column}"


@dataclass(frozen=True, eq=False)  # a decoded image has no hash; sources are told apart by identity
class MemoryImage:
    """An image that is already decoded."""

    image: Image.Image

    def open(self) -> Image.Image:
        return self.image.convert("RGB")

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return hashlib.sha256(self.image.convert("RGB").tobytes()).hexdigest()


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, refusing to leave `root`: annotation files are data, and data names no path outside.

    Raises:
        ValueError: an absolute path or one that climbs out.
    """
    parts = Path(relative)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"the annotation names {relative!r}, which leaves its folder {root}; correct the file.")
    return root / parts


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image.

    Attributes:
        xyxy: (K, 4) float32 corners x1, y1, x2, y2.
        size: (width, height) of the image in the boxes' units; None for boxes that are already normalised.
    """

    xyxy: np.ndarray
    size: tuple[float, float] | None = None

    def normalised(self) -> np.ndarray:
        """(K, 4) float32 as fractions of width and height, not clipped."""
        xyxy = np.asarray(self.xyxy, dtype=np.float64).reshape(-1, 4)
        if self.size is not None:
            width, height = self.size
            xyxy = xyxy / np.array([width, height, width, height])
        return xyxy.astype(np.float32)


def clip_boxes(
    boxes: Sequence[np.ndarray], names: Sequence[str], tolerance: float = 1e-3
) -> tuple[list[np.ndarray], int]:
    """Clip normalised boxes to their images.

    Args:
        boxes: one (K, 4) array of normalised xyxy an image.
        names: what to call each image in an error.
        tolerance: how far outside counts as rounding and is clipped without being counted.
    Returns:
        the clipped boxes, and how many reached out of their image by more than the tolerance.
    Raises:
        ValueError: NaN, inverted or empty boxes, or boxes wholly outside.
    """
    clipped, outside = [], 0
    for array, name in zip(boxes, names, strict=True):
        inner = np.clip(array, 0.0, 1.0)
        empty = ~((inner[:, 2] > inner[:, 0]) & (inner[:, 3] > inner[:, 1]))  # NaN compares false
        if empty.any():
            raise ValueError(
                f"{name}: box {array[empty][0].tolist()} (normalised x1, y1, x2, y2) is empty, inverted, NaN or wholly outside "
                "the image. Boxes need x1 < x2 and y1 < y2; check the format (x, y, width, height in pixels is not x1, y1, x2, y2)."
            )
        outside += int((np.abs(inner - array).max(1) > tolerance).sum())
        clipped.append(inner)
    return clipped, outside
