"""The C library's heap, settled for tensors before there are any.

A tensor starts at a multiple of 64 bytes. What is left over beside it goes to glibc's cache of small blocks, and from there to
a small object. As long as that lives, the place of the freed tensor merges with no other, and no tensor of the same size
fits into it again: the tiny stage 2 peaked at 1.9 instead of 1.5 GB. Without the cache, leftovers merge. (glibc's bug 30723, mended
in 2.39.)

glibc reads the setting when a process starts. Therefore a command starts itself again, once, before it imports anything.
"""

from __future__ import annotations

import os
import platform
import sys
import threading

TUNABLES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"
MENDED = (2, 39)


def heap_settings() -> dict[str, str]:
    """Environment variables for a new process; none where its C library needs none, or they are set."""
    library, version = platform.libc_ver()
    given = os.environ.get("GLIBC_TUNABLES", "")
    if library != "glibc" or tuple(map(int, version.split("."))) >= MENDED or "tcache_count" in given:
        return {}
    return {"GLIBC_TUNABLES": ":".join(filter(None, (given, TUNABLES)))}


def settle_heap() -> None:
    """Starts this command again, as the same process, where settings are missing."""
    if can_start_again() and (settings := heap_settings()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **settings})


def can_start_again() -> bool:
    """Only a program in a file that has not begun to work: no notebook, no text from a pipe."""
    program = getattr(sys.modules["__main__"], "__file__", None)
    return bool(program) and os.path.isfile(program) and threading.active_count() == 1 and "torch" not in sys.modules
