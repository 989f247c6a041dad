"""Where an image comes from: a file, a row of a `datasets` data set, or memory. Opened in the loading workers."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dataset_scripts.paths import checked_relative

logger = logging.getLogger(__name__)

ORIENTATION = ExifTags.Base.Orientation
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


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

    def content(self) -> str:
        """Equal for equal stored pictures, wherever they lie; of a missing one its identity."""


@dataclass(frozen=True)
class ImageFile:
    """An image on disk.

    Attributes:
        path: the file.
        upright: turn the image as its EXIF orientation says. Photographs from phones are stored sideways, and training data are
            turned when they are written (`dataset_scripts.images`), so one's own images must be turned as well. Published
            benchmarks are read as stored: their boxes refer to the stored pixels, and published evaluation code turns nothing.
    """

    path: Path
    upright: bool = True

    def open(self) -> Image.Image:
        if not self.path.exists():
            raise UnreadableImage(f"{self.path} does not exist")
        return _decoded(self.path, self.upright, str(self.path))

    def exists(self) -> bool:
        return self.path.is_file()

    def identity(self) -> str:
        status = self.path.stat() if self.path.exists() else None
        state = f"{status.st_size}:{status.st_mtime_ns}" if status else "missing"
        return f"{self.path}:{state}:{'upright' if self.upright else 'stored'}"

    def content(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.exists() else self.identity()


@dataclass(frozen=True)
class DatasetImage:
    """One row of a map-style `datasets` data set with a column of images, decoded or (`Image(decode=False)`) as stored.

    Attributes:
        dataset, index, column: the place.
        upright: as in `ImageFile`; a column that `datasets` decodes arrives upright in any case.
    """

    dataset: Any
    index: int
    column: str = "image"
    upright: bool = True

    def open(self) -> Image.Image:
        image = self._value()
        if isinstance(image, Image.Image):
            return image.convert("RGB")
        return _decoded(self._file(image), self.upright, self._name())

    def size(self) -> tuple[int, int]:
        """(width, height) of what `open` returns, from the header alone: nothing is decoded.

        Raises:
            UnreadableImage: no image, or no header that can be read; `open` raises as well.
        """
        image = self._value()
        if isinstance(image, Image.Image):
            return image.size
        return _header_size(self._file(image), self.upright, self._name())

    def _name(self) -> str:
        return f"row {self.index} of the data set"

    def _value(self) -> Any:
        try:
            image = self.dataset[self.index][self.column]
        except Exception as error:  # `datasets` decodes here, and decoders raise nearly anything on damaged files
            raise UnreadableImage(f"{self._name()} cannot be decoded ({error})") from None
        if image is None or (isinstance(image, dict) and not image["bytes"] and not image["path"]):
            raise UnreadableImage(f"{self._name()} has no image")
        return image

    def _file(self, stored: dict[str, Any]) -> Any:
        if stored["bytes"]:
            return io.BytesIO(stored["bytes"])
        path = Path(stored["path"])
        if not path.exists():
            raise UnreadableImage(f"{self._name()}: {path} does not exist")
        return path

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return f"{self.dataset._fingerprint}:{self.index}:{self.column}:{'upright' if self.upright else 'stored'}"

    def content(self) -> str:
        try:
            image = self._value()
            if isinstance(image, Image.Image):
                return MemoryImage(image).content()
            file = self._file(image)
        except UnreadableImage:
            return self.identity()
        return hashlib.sha256(file.read_bytes() if isinstance(file, Path) else file.getvalue()).hexdigest()


def _decoded(file: Any, upright: bool, name: str) -> Image.Image:
    """A file (path or binary file object) in RGB.

    Raises:
        UnreadableImage: no decoder reads it.
    """
    try:
        with Image.open(file) as image:
            return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except Exception as error:  # PIL's decoders raise nearly anything on damaged files
        raise UnreadableImage(f"{name} cannot be decoded ({error})") from None


def _header_size(file: Any, upright: bool, name: str) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            turned = upright and image.getexif().get(ORIENTATION, 1) in SIDEWAYS
            return image.size[::-1] if turned else image.size
    except Exception as error:  # as above
        raise UnreadableImage(f"{name} cannot be decoded ({error})") from None


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

    def content(self) -> str:
        return self.identity()


def inside(root: Path, relative: object) -> Path:
    """`root / relative`, refusing to leave `root`: annotation files are data, and data names no path outside.

    Raises:
        ValueError: see [`dataset_scripts.paths.checked_relative`].
    """
    return root / checked_relative(relative)


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image.

    Attributes:
        xyxy: (K, 4) float32 corners x1, y1, x2, y2.
        size: (width, height) of the image in the boxes' units; None for boxes that are already normalized.
    """

    xyxy: np.ndarray
    size: tuple[float, float] | None = None

    def normalized(self) -> np.ndarray:
        """(K, 4) float32 as fractions of width and height, not clipped."""
        xyxy = np.asarray(self.xyxy, dtype=np.float64).reshape(-1, 4)
        if self.size is not None:
            width, height = self.size
            xyxy = xyxy / np.array([width, height, width, height])
        return xyxy.astype(np.float32)


def clip_boxes(
    boxes: Sequence[np.ndarray], names: Sequence[str], tolerance: float = 1e-3
) -> tuple[list[np.ndarray], int]:
    """Clip normalized boxes to their images.

    Args:
        boxes: one (K, 4) array of normalized xyxy an image.
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
                f"{name}: box {array[empty][0].tolist()} (normalized x1, y1, x2, y2) is empty, inverted, NaN or wholly outside "
                "the image. Boxes need x1 < x2 and y1 < y2; check the format (x, y, width, height in pixels is not x1, y1, x2, y2)."
            )
        outside += int((np.abs(inner - array).max(1) > tolerance).sum())
        clipped.append(inner)
    return clipped, outside


def box_of_user(pixels: Sequence[float], path: Path, image: Image.Image) -> np.ndarray:
    """A box that a user gave for an image, with a warning where it reaches out of it.

    Args:
        pixels: x1, y1, x2, y2. path: the image's file, for messages.
    Returns:
        (4,) float32 normalized xyxy, cut to the image.
    Raises:
        ValueError: an empty, inverted or wholly outside box; names box, file and size.
    """
    what = f"--box {' '.join(f'{side:g}' for side in pixels)} in {path} ({image.width}×{image.height} pixels)"
    (inner,), outside = clip_boxes([Boxes(np.array([pixels]), image.size).normalized()], [what])
    if outside:
        logger.warning("%s reaches out of the image and is cut to it.", what)
    return inner[0]
