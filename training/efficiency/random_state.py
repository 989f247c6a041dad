"""A forward's random numbers once more: those of the CPU, and of the device that it runs on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class RandomState:
    """The state before the next number is drawn; reading it waits for nothing.

    Args:
        device: that the forward runs on. Others are left alone: `torch.random.fork_rng` would wake every GPU of a machine.
            Where PyTorch has no random state of its kind, the CPU's is all.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._module = _module_of(device)
        self._which = () if device.type == "mps" else (device,)  # of Apple's there is one
        self._cpu = torch.get_rng_state()
        self._device = self._module.get_rng_state(*self._which) if self._module else None

    def restore(self) -> None:
        """The next numbers are those that were drawn after this state."""
        torch.set_rng_state(self._cpu)
        if self._module:
            self._module.set_rng_state(self._device, *self._which)

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Draws these numbers again within, and afterwards goes on as if none had been drawn."""
        before = RandomState(self.device)
        self.restore()
        try:
            yield
        finally:
            before.restore()


def _module_of(device: torch.device) -> Any:
    """PyTorch's module of an accelerator that draws numbers of its own; None for the CPU and where there is none."""
    if device.type == "cpu":
        return None
    try:
        module = torch.get_device_module(device)
    except RuntimeError:
        return None
    return module if hasattr(module, "get_rng_state") else None
