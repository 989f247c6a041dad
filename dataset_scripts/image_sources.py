"""Where the image of a record comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import fsspec

from dataset_scripts.paths import image_path


class MissingImage(Exception):
    """There is no image for a record; the message is a short reason, the same for all of a kind."""


class ImageSource(Protocol):
    """Gives the bytes of a record's image."""

    def read(self, record: dict[str, Any]) -> bytes:
        """Bytes for a published record, not yet checked.

        Raises:
            MissingImage: there is none.
            UnsafePath: the record's path leaves the source's root.
        """
        ...


@dataclass
class FolderImages:
    """Images below a local folder or an fsspec URL, found by ``f_path`` without its published prefix."""

    root: str
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._filesystem, self._base = fsspec.core.url_to_fs(self.root, **self.storage_options)

    def read(self, record: dict[str, Any]) -> bytes:
        path = f"{self._base.rstrip('/')}/{image_path(record.get('f_path'))}"
        try:
            return self._filesystem.cat_file(path)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingImage("image file is missing") from error
        except PermissionError as error:
            raise MissingImage("image file may not be read") from error
