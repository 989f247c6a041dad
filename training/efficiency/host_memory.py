"""Memory of a run on a CPU that stays flat.

Each batch of packed texts has a length of its own. Two things grow with that: the C library's heap, where blocks of new
sizes find no gap of an old one; and oneDNN's cache of kernels, which it compiles for each shape.
"""

import ctypes
import os
import platform

from transformers import TrainerCallback

# Of its 1,024 kernels oneDNN needs those of one step again; the rest are of lengths that do not come back.
KERNELS = 256


class FlatHostMemory(TrainerCallback):
    """Gives freed memory back to the system after each step, where the C library is glibc.

    On the tiny recipe this costs less time than asking the system for each large block (M_MMAP_THRESHOLD).
    """

    def __init__(self) -> None:
        limit_kernels()
        self._libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._libc is not None:
            self._libc.malloc_trim(0)


def limit_kernels() -> None:
    """Bounds oneDNN's cache, unless the user did. It reads this once, before its first kernel."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
