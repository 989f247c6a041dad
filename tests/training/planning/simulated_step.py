"""A step of training on the simulated device, in a process of its own: what it holds at most, and where its tensors are.

python -m tests.training.planning.simulated_step '[{"model": "b16", "images": 8, "losses": ["global"]}]'
"""

import json
import os
import sys
import weakref
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from modeling_fgclip import FGCLIP2Model
from tests.simulated_device import DEVICE
from tests.training.one_step import Settings, configuration, evaluate, make_batches, prepare, train
from training.planning.memory import model_of


class Held(TorchDispatchMode):
    """Bytes of the tensors that were made within and still live, weights' half-precision copies left out."""

    def __init__(self, weights: list[torch.Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, Any] = {}
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        for weight in weights:
            self._see(weight, counted=False)

    def __torch_dispatch__(self, operation, types, arguments=(), settings=None):
        result = operation(*arguments, **(settings or {}))
        is_copy = operation is torch.ops.aten._to_copy.default and self._is_weight(arguments[0])
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, counted=not is_copy)
        return result

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._weights

    def _see(self, tensor: torch.Tensor, counted: bool) -> None:
        storage = tensor.untyped_storage()
        if (key := storage._cdata) in self._seen:
            return
        size = storage.nbytes() if counted else 0

        def gone(_: Any) -> None:
            self.now -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def to_device(module: nn.Module) -> None:
    """From the meta device, by hand: what `to` does with a module's tensors in place, fake ones cannot."""

    def like(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)

    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(like(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = like(buffer)


def step(settings: Settings) -> dict[str, Any]:
    """Runs one.

    Returns:
        bytes of its peak above weights and gradients, the (rows, tokens) of the texts, and the devices of what it gives;
        or the error.
    """
    config = configuration(settings)
    batches = make_batches(config, settings)
    groups = batches[0]["packed_texts"]["length_groups"]
    model = prepare(model_of(config), settings)
    with FakeTensorMode() as mode:
        to_device(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:  # as in every step but the first: gradients are added up in place
            parameter.grad = torch.zeros_like(parameter)
        batches = [on_device(batch, mode, settings.stray) for batch in batches]
        held = Held([*model.parameters(), *(parameter.grad for parameter in trained)])
        try:
            # What is wrong with images is read off their numbers, which fake ones do not have.
            with held, patch.object(FGCLIP2Model, "_check_images", lambda model, *images: images):
                given = (evaluate if settings.evaluation else train)(model, batches, settings, DEVICE)
        except FakeTensorDeviceMismatchError as error:
            return {"error": str(error)}
    return {"peak": held.peak, "groups": groups, "places": sorted({tensor.device.type for tensor in given.values()})}


def on_device(batch: dict[str, Any], mode: FakeTensorMode, stray: str | None) -> dict[str, Any]:
    fake = tree_map_only(torch.Tensor, mode.from_tensor, batch)
    return {
        name: value if name == stray else tree_map_only(torch.Tensor, lambda tensor: tensor.to(DEVICE), value)
        for name, value in fake.items()
    }


if __name__ == "__main__":
    print(json.dumps([step(Settings(**settings)) for settings in json.loads(sys.argv[1])]))
    sys.stdout.flush()
    os._exit(0)  # the device's threads cannot be joined
