"""Random numbers drawn once more, and the next ones as if they had not been."""

import pytest
import torch

from training.efficiency.random_state import RandomState


class Accelerator:
    """A device module whose random state is a number; Apple's knows no device."""

    def __init__(self, knows_devices: bool):
        self.state, self.asked = 5, []
        self._knows_devices = knows_devices

    def _ask(self, *device: torch.device) -> None:
        assert bool(device) is self._knows_devices
        self.asked += device

    def get_rng_state(self, *device: torch.device) -> int:
        self._ask(*device)
        return self.state

    def set_rng_state(self, state: int, *device: torch.device) -> None:
        self._ask(*device)
        self.state = state


def test_numbers_are_repeated_and_do_not_count():
    state = RandomState(torch.device("cpu"))
    first, second = torch.rand(3), torch.rand(3)
    between = torch.get_rng_state()
    with state.repeated():
        assert torch.equal(torch.rand(3), first)
        assert torch.equal(torch.rand(3), second)
        torch.rand(9)
    assert torch.equal(torch.get_rng_state(), between)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_the_devices_own_too(monkeypatch, device):
    module = Accelerator(knows_devices=device != "mps")
    monkeypatch.setattr(torch, "get_device_module", lambda asked: module)
    state = RandomState(torch.device(device))
    module.state = 7
    with state.repeated():
        assert module.state == 5
        module.state = 6
    assert module.state == 7
    assert set(module.asked) <= {torch.device(device)}


def test_a_device_that_pytorch_has_no_module_for():
    state = RandomState(torch.device("xla"))
    first = torch.rand(3)
    with state.repeated():
        assert torch.equal(torch.rand(3), first)
