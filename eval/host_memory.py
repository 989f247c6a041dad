"""Memory of long runs that have a new shape in every batch, as packed texts do; settled here, before the first batch, but for
what the C library must know when a process starts (`fgclip/heap.py`).

On a CPU, oneDNN keeps what it compiled for a shape, up to 1,024 of them and 20 MB a training step; and the C library's heap
fills with gaps into which no later block fits. On a GPU, PyTorch's allocator is left with such gaps.
"""

import ctypes
import functools
import os
import platform

# More than a step has of its own: a step took no longer than with 1,024, but 1.7 times as long with 64.
COMPILED_SHAPES = 128


def settle_memory() -> None:
    """Bounds all of it, unless the environment says otherwise. Libraries read this once, at their first use."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(COMPILED_SHAPES))
    if "PYTORCH_ALLOC_CONF" not in os.environ:  # the newer name, which torch 2.6 does not know
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def give_back_memory() -> None:
    """Gives freed memory back to the system where the C library is glibc; elsewhere it does nothing."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
