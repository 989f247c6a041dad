"""Memory of long runs that have a new shape in every batch, as packed texts do; settled here, before the first batch, but for
what the C library must know when a process starts (`fgclip/heap.py`).

On a CPU, oneDNN keeps what it compiled for a shape, up to 1,024 of them and 20 MB a training step; and the C library's heap
fills with gaps into which no later block fits. glibc also gives a block's freed memory back to the system at once, which clears
every page anew for the next block: a quarter of the time of an evaluation. On a GPU, PyTorch's allocator is left with gaps.
"""

import ctypes
import functools
import os
import platform

# More than a step has of its own: a step took no longer than with 1,024, but 1.7 times as long with 64.
COMPILED_SHAPES = 128

# glibc's mallopt: its number of an option, and the bytes. Tensors up to 32 MB, the most it allows, come from the heap, of which
# so much may be free before it shrinks: more than a block's activations.
HEAP = {"trim_threshold": (-1, 1 << 30), "mmap_threshold": (-3, 1 << 25)}


def settle_memory() -> None:
    """Bounds all of it, unless the environment says otherwise. Libraries read this once, at their first use."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(COMPILED_SHAPES))
    if "PYTORCH_ALLOC_CONF" not in os.environ:  # the newer name
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if (libc := _libc()) is not None and not _heap_is_given():
        for option, size in HEAP.values():
            libc.mallopt(option, size)


def _heap_is_given() -> bool:
    """Whether the environment says when the heap shrinks, by either of glibc's ways."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}" in tunables for name in HEAP)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def give_back_memory() -> None:
    """Gives freed memory back to the system where the C library is glibc; elsewhere it does nothing."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
