"""What `python -m eval` and `python -m eval.llava` share as commands."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.tasks.base import Benchmark


def described_tasks(tasks: Mapping[str, type[Benchmark]]) -> str:
    """Every task with its documentation, the files it wants and its options."""
    parts = []
    for name, task in sorted(tasks.items()):
        fields = [
            f"{f.name}={','.join(f.default) if isinstance(f.default, tuple) else f.default}"
            for f in dataclasses.fields(task)
            if f.name != "data"
        ]
        about = (task.__doc__ or "").strip().splitlines()[0]
        parts.append(f"{name}: {about}\n{task.wants}\noptions: {', '.join(fields)}")
    return "\n\n".join(parts)


def in_own_process(main: Callable[[list[str] | None], object], arguments: list[str] | None = None) -> None:
    """Runs a command's `main` as a process of its own, and ends the process group that it may have begun."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # texts are tokenized in the loading workers
    logging.basicConfig(level=logging.WARNING)
    try:
        main(arguments)
    finally:
        if "accelerate" in sys.modules:  # else nothing ran
            sys.modules["accelerate"].PartialState().destroy_process_group()
