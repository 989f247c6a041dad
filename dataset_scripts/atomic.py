"""Files that appear whole or not at all, whenever the process that writes them is killed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PART = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives another name to write to; what was written there is brought to disk and renamed to ``path`` at the end.

    Folders on the way are made. After an error the part is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two threads or processes that write one file must not share a part.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{_PART}")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text in one step."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes JSON in one step."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))


def remove_parts(folder: Path) -> None:
    """Removes what killed processes left half written. Only for one who holds the folder's lock (`locking.py`)."""
    for part in folder.rglob(f".*{_PART}"):
        part.unlink(missing_ok=True)
