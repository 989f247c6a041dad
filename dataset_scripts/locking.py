"""One command at a time writes a folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from dataset_scripts.atomic import remove_parts

_LOCK = ".lock"
_held: set[tuple[int, Path]] = set()  # by thread


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds a folder for this command, which is made if need be, and removes half-written files of a killed one.

    The lock ends with its process, however that ends. Nothing stays behind but the folder. Whoever holds a folder may
    enter again.

    Raises:
        ValueError: another command writes there; its process, host and start are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _holding(folder / _LOCK, folder) as entered:
        if entered:
            remove_parts(folder)
        yield


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Holds the place of a folder that does not exist yet, or is replaced as a whole; as `writing` holds one that does.

    Gives the place itself, where ``folder`` is a link to it.

    Raises:
        ValueError: another command makes the folder, or it is the working folder.
    """
    place = folder.resolve()
    if place == Path.cwd():
        raise ValueError(f"{folder} is the working folder, which cannot be replaced as a whole; name another folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    with _holding(place.with_name(f".{place.name}{_LOCK}"), folder):
        yield place


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Gives another name for a folder to make, which is renamed to ``folder`` at the end; one that is there is replaced.

    After an error what was made is removed, and ``folder`` stays as it was; so is what is left of a killed command.

    Raises:
        ValueError: as of `making`.
    """
    with making(folder) as place:
        part = place.with_name(f".{place.name}.partial")
        shutil.rmtree(part, ignore_errors=True)
        try:
            yield part
            if place.exists():
                shutil.rmtree(place)
            part.rename(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


@contextmanager
def _holding(path: Path, folder: Path) -> Iterator[bool]:
    """Holds the lock ``path`` for ``folder``; gives False to a thread that has it already."""
    key = (threading.get_ident(), path.resolve())
    if key in _held:
        yield False
        return
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"another command is writing to {folder}: {_holder(path)}. Wait until it has ended, or name another folder."
        ) from None
    try:
        path.write_text(json.dumps(_this_process()), encoding="utf-8")
        _held.add(key)
        yield True
    finally:
        _held.discard(key)
        # Before the release: whoever takes the lock next finds no name, and makes a new one.
        path.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "start": datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": Path(sys.argv[0]).name,
    }


def _holder(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return f"process {about['process']} on {about['host']} ({about['command']}), started {about['start']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and has not said yet who it is
        return "it has only just started"
