"""Where the image of a record comes from: a folder, tar files, the web, or the first of several that has it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import fsspec

from dataset_scripts.paths import checked_relative


class MissingImage(Exception):
    """There is no image for a record; the message is a short reason, the same for all of a kind."""


class ImageStore(Protocol):
    """Gives the bytes of a record's image; may be asked from several threads at once.

    Attributes:
        readers: how many threads are worth having.
    """

    readers: int

    def read(self, image: str) -> bytes:
        """Bytes, not yet checked, for the text by which a record names its image, a relative path in most cases.

        Raises:
            MissingImage: there is none.
            UnsafePath: the path leaves the source's root.
        """
        ...


@dataclass
class FolderImages:
    """Images below a local folder or an fsspec URL."""

    root: str
    storage_options: dict[str, Any] = field(default_factory=dict)
    readers: int = 4

    def __post_init__(self) -> None:
        self._filesystem, self._base = fsspec.core.url_to_fs(self.root, **self.storage_options)

    def exists(self) -> bool:
        """Whether the folder is there at all; else every read would ask in vain."""
        return self._filesystem.isdir(self._base)

    def read(self, image: str) -> bytes:
        path, missing = checked_relative(image), None
        # A Mac stores é as e with an accent, which is another name to other systems.
        for name in dict.fromkeys((path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))):
            try:
                return self._filesystem.cat_file(f"{self._base.rstrip('/')}/{name}")
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                missing = error
            except PermissionError as error:
                raise MissingImage("image file may not be read") from error
        raise MissingImage("image file is missing") from missing


@dataclass
class TarImages:
    """Members of tar files below a local folder, named ``archive.tar:offset:size``."""

    root: Path
    readers: int = 4

    def read(self, image: str) -> bytes:
        archive, offset, size = image.rsplit(":", 2)
        try:
            with open(self.root / checked_relative(archive), "rb") as file:
                file.seek(int(offset))
                data = file.read(int(size))
        except FileNotFoundError as error:
            raise MissingImage("tar file is missing") from error
        if len(data) < int(size):
            raise MissingImage("tar file is cut")
        return data


@dataclass
class FirstOf:
    """Asks one source after the other; the last one's reason counts if none has the image."""

    sources: Sequence[ImageStore]

    @property
    def readers(self) -> int:
        return max(source.readers for source in self.sources)

    def read(self, image: str) -> bytes:
        reason = MissingImage("no source of images")
        for source in self.sources:
            try:
                return source.read(image)
            except MissingImage as error:
                reason = error
        raise reason
