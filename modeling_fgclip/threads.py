"""Work that waits for no Python, such as decoding and resizing images, on as many threads as PyTorch has."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def in_threads(work: Callable[..., T], *items: Iterable) -> list[T]:
    """`list(map(work, *items))`. A loading process, which has one thread, calls one after the other."""
    threads = torch.get_num_threads()
    if threads == 1:
        return list(map(work, *items))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, *items))


__all__ = ["in_threads"]
