"""Checkpoints that are whole or not there: written aside, sealed with checksums, renamed; damaged ones are recognized."""

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
# A checkpoint is written in this folder of the output and moved out of it when it is complete.
UNFINISHED = ".unfinished"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path) -> None:
    """Brings a folder's files to disk and lists them, with sizes and checksums, in its manifest."""
    files = {}
    for path in _files(folder):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    with open(folder / MANIFEST, "w", encoding="utf-8") as file:
        json.dump({"version": 1, "files": files}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync_folder(place)


def move_into_place(folder: Path, target: Path) -> None:
    """Renames a sealed folder, so that a reader sees all of it or nothing. A folder of that name is replaced."""
    if target.exists():
        set_aside(target, "replaced")
    folder.rename(target)
    _sync_folder(target.parent)
    shutil.rmtree(target.with_name(f"replaced-{target.name}"), ignore_errors=True)


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None if it is as it was sealed."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"it has no {MANIFEST}: writing it was interrupted, or something else wrote it"
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return f"its {MANIFEST} is not readable"
    # What is opened is what lies in the folder, never a path that the manifest names.
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name, facts in listed.items():
        if name not in found:
            return f"{name} is missing"
        size = found[name].stat().st_size
        if size != facts["bytes"]:
            return f"{name} has {size} bytes and should have {facts['bytes']}"
    for name, facts in listed.items():
        if _digest(found[name]) != facts["sha256"]:
            return f"{name} has other contents than were written"
    return None


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest step first."""
    found = [
        (int(match[1]), path) for path in output_dir.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found) if path.is_dir()]


def newest_good_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that is as it was written; damaged ones after it are set aside with a warning."""
    for path in reversed(checkpoint_folders(output_dir)):
        problem = find_damage(path)
        if problem is None:
            return path
        aside = set_aside(path, "damaged")
        logger.warning(
            "The checkpoint %s is damaged: %s. It is kept as %s; the one before it is used.", path, problem, aside.name
        )
    return None


def set_aside(folder: Path, prefix: str) -> Path:
    """Renames a checkpoint so that nothing takes it for one any more, replacing what was set aside under that name."""
    aside = folder.with_name(f"{prefix}-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def step_of(folder: Path) -> int:
    """The optimization step after which a checkpoint was taken."""
    return int(_NAME.fullmatch(folder.name)[1])


def progress_file(process_index: int | str) -> str:
    """Where a process keeps its own state."""
    return f"progress_{process_index}.pt"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
