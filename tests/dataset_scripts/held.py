"""A folder that another process holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = """
import sys
from pathlib import Path
from dataset_scripts import locking
with getattr(locking, sys.argv[2])(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder: Path, how: str = "writing") -> Iterator[subprocess.Popen]:
    """Within this block another process writes to the folder, or makes it ("making", "replacing_folder")."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()
