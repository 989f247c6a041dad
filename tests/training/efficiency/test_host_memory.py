"""Freed blocks below one that is in use: glibc keeps them, the callback gives them back."""

import ctypes
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerState

from training.efficiency.host_memory import STEPS, FlatMemory

BLOCK, BLOCKS = 100_000, 2_000  # below glibc's threshold for blocks of their own


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have heaps of their own")
def test_freed_memory_goes_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    last = libc.malloc(BLOCK)
    for block in blocks:
        libc.free(block)
    before = resident()
    cpu, callback = SimpleNamespace(device=torch.device("cpu")), FlatMemory()
    callback.on_step_end(cpu, TrainerState(global_step=STEPS - 1), None)
    assert before - resident() < BLOCK * BLOCKS / 2  # not at every step
    callback.on_step_end(cpu, TrainerState(global_step=STEPS), None)
    assert before - resident() > BLOCK * BLOCKS / 2
    libc.free(last)
