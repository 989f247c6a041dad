"""The engine of one machine: a pool of processes over the shards of one stage at a time."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .stages import Stage, run_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .input import Unit


def run_local(
    stages: list[Stage], units: list[Unit], workers: int | None, on_shard: Callable[[dict[str, Any]], None]
) -> None:
    """Work off the open shards of each stage in turn; `on_shard` gets the statistics of each as it is done.

    Args:
        stages: may follow one another without a barrier.
        units: the input's plan, by shard.
        workers: processes for steps that the recipe gives no number; None takes every core.
    """
    for stage in stages:
        todo = [index for index in range(stage.shards) if not stage.done(index)]
        number = min(worker_count(stage, workers), len(todo))
        if number == 1 and not stage.resources.gpus:
            for index in todo:
                on_shard(run_shard(stage, index, units[index]))
        elif number:
            for statistics in _in_pool(stage, todo, units, number):
                on_shard(statistics)


def worker_count(stage: Stage, workers: int | None) -> int:
    """The recipe's number, else one for models and endpoints (which are concurrent in themselves), else the cores."""
    if stage.resources.workers is not None:
        return stage.resources.workers
    if stage.resources.gpus or stage.large or stage.chat is not None:
        return 1
    return workers or os.cpu_count() or 1


def _in_pool(stage: Stage, todo: list[int], units: list[Unit], workers: int) -> Iterator[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")  # a fork of a process that runs threads can hang
    devices = context.Queue()
    for worker in range(workers):
        devices.put(worker)
    gpus = int(stage.resources.gpus)
    options = (os.getpid(), str(Path(stage.output) / "work" / ".workers.lock"), devices, gpus, workers)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=options) as pool:
        # few shards are handed out ahead, so that a stop is quick
        waiting, left = set(), iter(todo)
        try:
            for index in left:
                waiting.add(pool.submit(run_shard, stage, index, units[index]))
                if len(waiting) >= 2 * workers:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(parent: int, lock: str, devices: Any, gpus: int, workers: int) -> None:
    """Own GPUs, a fair share of the cores, and an end when the parent ends."""
    worker = devices.get()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        numbers = visible.split(",") if visible else [str(i) for i in range(gpus * workers)]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(numbers[worker * gpus : (worker + 1) * gpus])
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    hold_lock(lock)

    def watch() -> None:
        # kill -9 of the parent leaves its children running; a restarted run must not meet them
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def hold_lock(path: str) -> int:
    """Share the lock of the workers until this process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
