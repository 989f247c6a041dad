"""Work done ahead of its turn by a few threads, with results in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PER_WORKER = 4  # results under way or waiting, per thread: bounds memory


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], workers: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yields every item with the finished or running ``work(item)``; at most ``4 * workers`` are under way.

    Items are drawn only as far as work is started, and work not yet begun is dropped when the iterator is closed.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= _PER_WORKER * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
