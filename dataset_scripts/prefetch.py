"""Work done ahead of its turn by a few threads, with results in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PER_WORKER = 4  # results under way or waiting, per thread
_PER_WORKER_AT_MOST = 64  # … while the next one in order is slow, so that it does not hold back the rest
_BYTES = 256_000_000  # of results that wait for a slow one


def prefetch(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    workers: int,
    size: Callable[[Result], int] = lambda result: 0,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Yields every item with the finished or running ``work(item)``.

    ``4 * workers`` are under way. While the next one in order takes long, up to 16 times as many and 256 MB of results
    wait for it. Items are drawn only as far as work is started, and work not yet begun is dropped when the iterator is
    closed.

    Args:
        size: bytes that a result holds; not asked for work that failed.
    """

    def is_full() -> bool:
        if len(waiting) >= _PER_WORKER_AT_MOST * workers:
            return True
        done = [future for _, future in waiting if future.done() and future.exception() is None]
        return sum(size(future.result()) for future in done) >= _BYTES

    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            while len(waiting) >= _PER_WORKER * workers:
                under_way = [future for _, future in waiting if not future.done()]
                if waiting[0][1].done() or is_full():
                    yield waiting.popleft()
                elif len(under_way) >= _PER_WORKER * workers:
                    wait(under_way, return_when=FIRST_COMPLETED)
                else:
                    break
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
