"""Equal gradients, no product computed twice, norms computed twice."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tests.training.records import make_record
from training.collator import FGCLIPCollator
from training.objective import Objective
from training.selective_checkpointing import checkpoint_selectively
from training.trainer import MODEL_INPUTS


class CountNorms(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation is torch.ops.aten.native_layer_norm.default
        return operation(*args, **(kwargs or {}))


def step(model, batch) -> tuple[dict[str, torch.Tensor], int, int]:
    """Gradients, FLOPs of products, norms."""
    objective = Objective(regional_weight=0.1, hard_weight=0.5)
    model.zero_grad()
    with FlopCounterMode(display=False) as flops, CountNorms() as norms:
        output = model(**{name: batch[name] for name in MODEL_INPUTS})
        objective.total(objective.losses(output, batch)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return gradients, flops.get_total_flops(), norms.count


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_equals_a_plain_step(tiny_model, processor, kernel):
    batch = FGCLIPCollator(processor)([make_record(number, 2, 3) for number in range(3)])
    tiny_model.train()
    with sdpa_kernel(kernel):
        plain, plain_flops, plain_norms = step(tiny_model, batch)
        tiny_model.gradient_checkpointing_enable({"use_reentrant": False})
        _, whole_flops, whole_norms = step(tiny_model, batch)
        checkpoint_selectively(tiny_model)
        selective, selective_flops, selective_norms = step(tiny_model, batch)
    assert plain.keys() == selective.keys()
    for name, gradient in plain.items():
        assert torch.equal(selective[name], gradient), name
    assert selective_norms == whole_norms > plain_norms
    assert selective_flops == plain_flops < whole_flops
