"""Memory of a run on a CPU: what is free goes back to the system.

Each batch of packed texts has a length of its own, so the C library's heap fills with gaps into which no later block fits.
"""

import ctypes
import platform

from transformers import TrainerCallback


class GiveBackHostMemory(TrainerCallback):
    """Gives freed memory back after each step, where the C library is glibc; elsewhere it does nothing."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._libc is not None:
            self._libc.malloc_trim(0)
