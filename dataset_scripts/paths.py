"""Paths that come out of data files: joined to a root only if they cannot leave it."""

from __future__ import annotations

import re
from pathlib import Path

# What files of pictures end with, in any case; what they really are, their first bytes tell (modeling_fgclip/pixels.py).
IMAGE_SUFFIXES = ("jpg", "jpeg", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff")
PUBLISHED_PREFIX = "grit-20m/data-12m/"  # of every f_path in FineHARD; stands for no folder of the published data
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, on Linux
_DRIVE = re.compile(r"[A-Za-z]:")


class UnsafePath(ValueError):
    """A path from data that is absolute or climbs out of its root."""


def checked_relative(path: object) -> str:
    """The path if it is relative and stays below its root, with ``/`` between its parts.

    Raises:
        UnsafePath: it is no text, no name a file can have, empty, absolute, a URL, or has a part ``..``.
    """
    if not isinstance(path, str) or not path:
        raise UnsafePath(f"a path is {path!r}; it must be a text such as 'coyo_image_0/00000/1.jpg'")
    parts = path.split("/")
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    if max(sizes) > _LONGEST_NAME or sum(sizes) + len(parts) > _LONGEST_PATH:
        raise UnsafePath(f"path {path[:80]!r}… has {len(path):,} characters; no file system has such a name")
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        raise UnsafePath(f"path {path!r} is no UTF-8")
    # "::" chains file systems in fsspec, a backslash separates parts on Windows.
    if (
        path.startswith("/")
        or ".." in parts
        or _DRIVE.match(path)
        or any(s in path for s in ("\\", "\0", "::", "://"))
    ):
        raise UnsafePath(f"path {path!r} could leave its root; it must be relative, without '..'")
    return "/".join(part for part in parts if part not in ("", "."))


def image_path(f_path: object) -> str:
    """The relative path of an image: ``f_path`` without its published prefix, checked.

    Raises:
        UnsafePath: see :func:`checked_relative`.
    """
    return checked_relative(f_path.removeprefix(PUBLISHED_PREFIX) if isinstance(f_path, str) else f_path)


def called_images(folder: Path) -> list[Path]:
    """Files below a folder that are called like images, in the order of their names; maybe none."""
    return sorted(path for path in folder.rglob("*") if path.suffix[1:].lower() in IMAGE_SUFFIXES and path.is_file())


def image_files(folder: Path) -> list[Path]:
    """What [`called_images`] finds.

    Raises:
        ValueError: it finds nothing.
    """
    found = called_images(folder)
    if not found:
        raise ValueError(f"{folder} holds no image; known are {', '.join(IMAGE_SUFFIXES)}.")
    return found
