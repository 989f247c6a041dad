"""What fails on one process fails on all of them, so that none waits for one that has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


@contextmanager
def failing_together(active: bool = True) -> Iterator[None]:
    """A block that may fail on some processes. All of them leave it with an error as soon as one does.

    The block itself must not wait for other processes after the place where it may fail.

    Args:
        active: whether all processes are here; False where only one calls.
    Raises:
        Exception: the block's own, on the processes where it failed.
        ValueError: on the others, with the message of the first one that failed.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if active and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        messages: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(messages, None if failure is None else str(failure) or type(failure).__name__)
        first = next((message for message in messages if message is not None), None)
        if failure is None and first is not None:
            raise ValueError(first)
    if failure is not None:
        raise failure
