"""One run at a time writes an output folder, however many processes the run has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from dataset_scripts.locking import writing


@contextmanager
def writing_together(folder: str | Path) -> Iterator[None]:
    """Holds a folder for this run: the first process of all takes the lock. All processes enter, and all are refused.

    Raises:
        ValueError: on every process, another run writes there.
    """
    state = PartialState()
    with ExitStack() as stack:
        refusal: list[str | None] = [None]
        if state.is_main_process:
            try:
                stack.enter_context(writing(Path(folder)))
            except ValueError as error:
                refusal = [str(error)]
        if state.num_processes > 1:
            broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise ValueError(refusal[0])
        yield
