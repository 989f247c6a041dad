"""One progress bar for long work, which is as good in a file: a line now and then instead of one that overwrites itself."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm.auto import tqdm as auto_tqdm
from tqdm.std import tqdm as plain_tqdm

SECONDS = 30  # between two lines


def shows_bars() -> bool:
    """Whether a line that overwrites itself is seen as such: in a terminal, or as a widget in a notebook."""
    return sys.stderr.isatty() or issubclass(auto_tqdm, _notebook_bar())


def progress_bar(*args: Any, **kwargs: Any) -> plain_tqdm:
    """tqdm's bar, with tqdm's arguments."""
    return (auto_tqdm if shows_bars() else Lines)(*args, **kwargs)


class Lines(plain_tqdm):
    """A line at the start, at the end, and every half minute between, whatever asks for more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._shown: tuple[float, str] = (float("-inf"), "")
        super().__init__(*args, **{**kwargs, "leave": True, "ascii": True, "mininterval": SECONDS, "ncols": 100})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if time.monotonic() - self._shown[0] >= SECONDS:
            self._print()

    def close(self) -> None:
        if not self.disable:
            self._print()
            self.disable = True
            self._decr_instances(self)

    def clear(self, nolock: bool = False) -> None:
        """There is nothing to clear away for a message."""

    def _print(self) -> None:
        line = str(self).rstrip()
        if line != self._shown[1]:
            self._shown = (time.monotonic(), line)
            self.fp.write(line + "\n")
            self.fp.flush()


def _notebook_bar() -> type:
    from tqdm.notebook import tqdm_notebook

    return tqdm_notebook
