"""Answers on disk: kill -9 loses none of them, and none is paid for twice."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

from .messages import Answer

if TYPE_CHECKING:
    from pathlib import Path

_KEPT = ("text", "finish_reason", "prompt_tokens", "completion_tokens")


class Journal:
    """Answers by request, one JSON line each, brought to disk when they arrive.

    A last line that was cut off by a kill is dropped. `path` None keeps nothing on disk.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._answers: dict[str, Answer] = {}
        self._lock = threading.Lock()
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 - closed by __exit__
            self._load()

    def _load(self) -> None:
        self._file.seek(0)
        good = 0
        for line in self._file:
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                self._answers[key] = Answer(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        self._file.truncate(good)

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Any thread may put an answer."""
        line = json.dumps({"key": key, **{name: getattr(answer, name) for name in _KEPT}}).encode() + b"\n"
        with self._lock:
            self._answers[key] = answer
            if self._file is not None and not self._file.closed:
                self._file.write(line)
                self._file.flush()
                os.fsync(self._file.fileno())

    def __len__(self) -> int:
        return len(self._answers)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
