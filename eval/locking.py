"""One run at a time writes an output folder, however many processes the run has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accelerate import PartialState

from dataset_scripts.locking import writing
from eval.together import failing_together


@contextmanager
def writing_together(folder: str | Path) -> Iterator[None]:
    """Holds a folder for this run: the first process of all takes the lock. All processes enter, and all are refused.

    Raises:
        ValueError: another run writes there, or the folder cannot be written.
    """
    with ExitStack() as stack:
        with failing_together():
            if PartialState().is_main_process:
                try:
                    stack.enter_context(writing(Path(folder)))
                except OSError as error:
                    raise ValueError(f"{folder} cannot be written: {error}. Name another folder.") from None
        yield
