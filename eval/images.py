"""Where an image comes from: a file, a row of a `datasets` data set, or memory. Opened in the loading workers."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from dataset_scripts.paths import checked_relative
from dataset_scripts.records import BadBox, cut_box
from dataset_scripts.upright import turn_box, turn_of_boxes
from modeling_fgclip.pixels import BadImage, Header, read_header, to_rgb

logger = logging.getLogger(__name__)


class UnreadableImage(ValueError):
    """An image that is missing or that no decoder reads."""


class ImageSource(Protocol):
    """What a task hands to the embedder for each image."""

    def open(self) -> Image.Image:
        """The upright image in RGB.

        Raises:
            UnreadableImage: missing or broken.
        """

    def header(self) -> Header:
        """Size and orientation; nothing is decoded.

        Raises:
            UnreadableImage: missing, or without a header that can be read.
        """

    def identity(self) -> str:
        """Changes whenever the image does; keys the feature cache."""

    def content(self) -> str:
        """Equal for equal stored pictures, wherever they lie; of a missing one its identity."""


@dataclass(frozen=True)
class ImageFile:
    """An image on disk."""

    path: Path

    def open(self) -> Image.Image:
        return self._read(to_rgb)

    def header(self) -> Header:
        return self._read(read_header)

    def _read(self, read: Callable[[Path], Any]) -> Any:
        if not self.path.exists():
            raise UnreadableImage(f"{self.path} does not exist")
        return _readable(read, self.path, str(self.path))

    def exists(self) -> bool:
        return self.path.is_file()

    def identity(self) -> str:
        status = self.path.stat() if self.path.exists() else None
        return f"{self.path}:{f'{status.st_size}:{status.st_mtime_ns}' if status else 'missing'}"

    def content(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.exists() else self.identity()


@dataclass(frozen=True)
class DatasetImage:
    """One row of a map-style `datasets` data set with a column of images, decoded or (`Image(decode=False)`) as stored."""

    dataset: Any
    index: int
    column: str = "image"

    def open(self) -> Image.Image:
        return self._read(to_rgb)

    def header(self) -> Header:
        return self._read(read_header)

    def _read(self, read: Callable[[Any], Any]) -> Any:
        name = f"row {self.index} of the data set"
        try:
            image = self.dataset[self.index][self.column]
        except Exception as error:  # `datasets` decodes here, and decoders raise nearly anything on damaged files
            raise UnreadableImage(f"{name} cannot be decoded ({error})") from None
        if isinstance(image, dict):
            image = image["bytes"] or image["path"]
        if not image:
            raise UnreadableImage(f"{name} has no image")
        return _readable(read, image, name)

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return f"{self.dataset._fingerprint}:{self.index}:{self.column}"

    def content(self) -> str:
        try:
            return self._read(_content)
        except UnreadableImage:
            return self.identity()


def _content(image: Image.Image | bytes | str) -> str:
    if isinstance(image, Image.Image):
        return MemoryImage(image).content()
    return hashlib.sha256(image if isinstance(image, bytes) else Path(image).read_bytes()).hexdigest()


def _readable(read: Callable[[Any], Any], image: Any, name: str) -> Any:
    try:
        return read(image)
    except (BadImage, OSError) as error:
        raise UnreadableImage(f"{name} cannot be decoded ({error})") from None


@dataclass(frozen=True, eq=False)  # a decoded image has no hash; sources are told apart by identity
class MemoryImage:
    """An image that is already decoded."""

    image: Image.Image

    def open(self) -> Image.Image:
        return to_rgb(self.image)

    def header(self) -> Header:
        return read_header(self.image)

    def exists(self) -> bool:
        return True

    def identity(self) -> str:
        return hashlib.sha256(self.open().tobytes()).hexdigest()

    def content(self) -> str:
        return self.identity()


def inside(root: Path, relative: object) -> Path:
    """`root / relative`, refusing to leave `root`: annotation files are data, and data names no path outside.

    Raises:
        ValueError: see [`dataset_scripts.paths.checked_relative`].
    """
    return root / checked_relative(relative)


WHOLE_IMAGE = np.array([0, 0, 1, 1], np.float32)  # normalized xyxy


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


def upright_boxes(image: ImageSource, xyxy: np.ndarray, declared: tuple[float, float] | None) -> Boxes:
    """Boxes in pixels as boxes of the upright image, which is the one that is encoded.

    An image without a header that can be read gets its boxes as they are, or as the whole image where no size is
    declared: nothing will open it, and the embedder refuses or counts it.

    Args:
        xyxy: (K, 4), in pixels. declared: (width, height) that the annotation gives; it decides whether the boxes
            belong to the stored or to the upright image (`dataset_scripts.upright`).
    Raises:
        ValueError: the declared size is that of neither.
    """
    try:
        header = image.header()
    except UnreadableImage:
        return Boxes(xyxy, declared) if declared else Boxes(np.tile(WHOLE_IMAGE, (len(xyxy), 1)))
    turn = turn_of_boxes(header, declared)
    if turn != 1:
        stored, upright = np.array(header.stored * 2, np.float64), np.array(header.size * 2, np.float64)
        xyxy = np.array([turn_box(box / stored, turn) * upright for box in xyxy], np.float32)
    return Boxes(xyxy, header.size)


def _cut(box: list[float], name: str) -> list[float]:
    try:
        return cut_box(box, tolerance=math.inf)
    except BadBox as error:
        raise ValueError(
            f"{name}: {error}, or lies wholly outside the image: {box} (normalized x1, y1, x2, y2). Boxes need x1 < x2 and "
            "y1 < y2; check the format (x, y, width, height in pixels is not x1, y1, x2, y2)."
        ) from None


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
        inner = np.array([_cut(box, name) for box in array.tolist()], np.float32).reshape(-1, 4)
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
