"""Equal gradients; norms and the widening products are computed twice, all other products once."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tests.training.records import make_record
from training.data.collator import FGCLIPCollator
from training.efficiency.activation_checkpointing import checkpoint_selectively
from training.forward import MODEL_INPUTS
from training.objective import Objective, parse_losses
from training.options import STAGE2_LOSSES


class Counts(TorchDispatchMode):
    """What is computed in blocks: norms, and FLOPs of products with a bias whose output is wider than their input."""

    norms = widening_flops = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.norms += operation is torch.ops.aten.native_layer_norm.default
        if operation is torch.ops.aten.addmm.default and args[2].shape[0] < args[2].shape[1]:
            self.widening_flops += 2 * args[1].shape[0] * args[2].numel()
        return operation(*args, **(kwargs or {}))


def step(model, batch) -> tuple[dict[str, torch.Tensor], int, Counts]:
    """Gradients, FLOPs of all products, counts."""
    objective = Objective(parse_losses(STAGE2_LOSSES))
    model.zero_grad()
    with FlopCounterMode(display=False) as flops, Counts() as counts:
        output = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch})
        objective.total(objective.losses(output, batch)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return gradients, flops.get_total_flops(), counts


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_equals_a_plain_step(tiny_model, processor, kernel):
    batch = FGCLIPCollator(processor)([make_record(number, 2, 3) for number in range(3)])
    tiny_model.train()
    with sdpa_kernel(kernel):
        plain, plain_flops, plain_counts = step(tiny_model, batch)
        tiny_model.gradient_checkpointing_enable({"use_reentrant": False})
        _, whole_flops, whole_counts = step(tiny_model, batch)
        checkpoint_selectively(tiny_model)
        selective, selective_flops, counts = step(tiny_model, batch)
    assert plain.keys() == selective.keys()
    for name, gradient in plain.items():
        assert torch.equal(selective[name], gradient), name
    assert counts.norms == whole_counts.norms > plain_counts.norms
    assert counts.widening_flops == whole_counts.widening_flops > plain_counts.widening_flops
    assert plain_flops < selective_flops < whole_flops
    assert selective_flops - plain_flops == counts.widening_flops - plain_counts.widening_flops
