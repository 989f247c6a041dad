"""A short name for the state of a folder, so that a cache built from it goes stale when it changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec

# Asking 12 million images for their time takes minutes; beyond this many, only their folders are asked, which notice
# files that come, go or are replaced, but not one that is rewritten in place.
_FILES_ASKED = 100_000


def _local_lines(root: Path, times: bool) -> list[str]:
    lines: list[str] = []
    seen: set[str] = set()
    files = 0
    for folder, folders, names in os.walk(root, followlinks=True):  # images often lie on another disk, behind a link
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        place = os.path.relpath(folder, root)
        lines.append(f"{place} {os.stat(folder).st_mtime_ns if times else ''} {len(names)}")
        for name in sorted(names):
            files += 1
            if files > _FILES_ASKED and not name.endswith(".json"):
                continue
            try:
                state = os.stat(os.path.join(folder, name))
            except OSError:  # a link to nothing
                continue
            lines.append(f"{place}/{name} {state.st_size} {state.st_mtime_ns if times else ''}")
    return lines


def fingerprint(root: str, storage_options: dict | None = None, times: bool = True) -> str:
    """16 hexadecimal digits that change when files under ``root`` are added, removed or changed.

    Local folders: names, sizes and, with ``times``, times of modification; without them, a copy elsewhere has the same.
    Other file systems: what their listing says of the top folder and of ``jsonfiles`` (name, size, and the revision
    where there is one, as on the Hugging Face Hub).
    """
    filesystem, base = fsspec.core.url_to_fs(root, **(storage_options or {}))
    if isinstance(filesystem, fsspec.implementations.local.LocalFileSystem):
        lines = [base if times else "", *_local_lines(Path(base), times)]
    else:
        entries = filesystem.ls(base, detail=True)
        if filesystem.isdir(f"{base}/jsonfiles"):
            entries += filesystem.ls(f"{base}/jsonfiles", detail=True)
        keys = ("name", "size", "ETag", "blob_id", "last_commit", *(("mtime", "LastModified") if times else ()))
        lines = [" ".join(str(entry.get(key)) for key in keys) for entry in entries]
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()[:16]
