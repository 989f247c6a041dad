"""A forward's random numbers once more: those of the CPU, and of the device that it runs on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """The state before the next number is drawn; reading it waits for nothing.

    Args:
        device: that the forward runs on. Others are left alone: `torch.random.fork_rng` would wake every GPU of a machine.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._which = () if device.type == "mps" else (device,)  # of Apple's there is one
        self._cpu = torch.get_rng_state()
        self._device = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(*self._which)

    def restore(self) -> None:
        """The next numbers are those that were drawn after this state."""
        torch.set_rng_state(self._cpu)
        if self._device is not None:
            torch.get_device_module(self.device).set_rng_state(self._device, *self._which)

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Draws these numbers again within, and afterwards goes on as if none had been drawn."""
        before = RandomState(self.device)
        self.restore()
        try:
            yield
        finally:
            before.restore()
