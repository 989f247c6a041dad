"""Batches that are prepared (images opened, resized, texts tokenized) while the model computes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import get_int_from_env
from torch.utils.data import DataLoader, Dataset

# Where launchers say how many processes a machine has: torchrun and accelerate, Open MPI, MVAPICH.
LOCAL_PROCESSES = ["LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"]


class _Batches(Dataset):
    """Each item is one whole prepared batch: opening, decoding and resizing happen in the loading workers."""

    def __init__(self, batches: Sequence[Any], prepare: Callable[[Any], Any]):
        self.batches, self.prepare = batches, prepare

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.prepare(self.batches[index])


def _first(items: list[Any]) -> Any:
    return items[0]


def default_workers(device: torch.device) -> int:
    """Loading processes for a model there: none on a CPU, whose cores the model needs; beside an accelerator this process's
    share of the machine's cores, 8 at most."""
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // max(1, get_int_from_env(LOCAL_PROCESSES, 1)) - 1))


def prepared_batches(
    batches: Sequence[Any], prepare: Callable[[Any], Any], num_workers: int, device: torch.device
) -> DataLoader:
    """`prepare` of each batch, in order.

    Args:
        num_workers: loading processes, where the system can fork them (not on Windows).
        device: of the model.
    """
    # A worker costs about as much to start as a few batches to load.
    workers = min(num_workers, len(batches) // 4)
    # Forked, since `prepare` belongs to an object that holds the model: a spawned worker would need a copy of it. Apple's
    # Metal does not survive a fork.
    forked = "fork" in multiprocessing.get_all_start_methods() and device.type != "mps"
    return DataLoader(
        _Batches(batches, prepare),
        batch_size=1,
        collate_fn=_first,
        num_workers=workers if forked else 0,
        multiprocessing_context="fork" if forked and workers else None,
    )
