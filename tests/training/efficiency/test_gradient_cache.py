"""The gradient of a large batch from small ones, against the plain step on the large one."""

import pytest
import torch
from torch.testing import assert_close

from tests.training.records import make_record
from training.data.collator import FGCLIPCollator
from training.efficiency.gradient_cache import cache_gradients
from training.forward import embed
from training.objective import Objective, parse_losses
from training.options import STAGE1_LOSSES, STAGE2_LOSSES

# (regions, negatives) of twelve records, so that the batches of four hold many, few and no regions.
COUNTS = [(3, 4), (1, 0), (0, 0), (4, 10), (0, 0), (0, 0), (0, 0), (0, 0), (1, 2), (0, 0), (2, 3), (1, 1)]


def make_records() -> list[dict]:
    records = [make_record(index, regions, negatives) for index, (regions, negatives) in enumerate(COUNTS)]
    records[9]["short_captions"] = records[1]["short_captions"]  # a duplicate across batches
    records[2]["caption"] = None
    return records


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("mask_duplicates", [False, True])
@pytest.mark.parametrize("losses", [STAGE1_LOSSES, STAGE2_LOSSES, ("global", "self_distillation"), ("long_clip",)])
def test_equals_the_plain_step(tiny_model, processor, losses, mask_duplicates):
    objective = Objective(parse_losses(losses), mask_duplicates=mask_duplicates)
    records = make_records()
    collate = FGCLIPCollator(processor, **objective.collation())

    whole = collate(records)
    expected = objective.losses(embed(tiny_model, whole), whole)
    objective.total(expected).backward()
    plain = gradients(tiny_model)

    tiny_model.zero_grad()
    batches = [collate(records[start : start + 4]) for start in range(0, 12, 4)]
    losses, cached = cache_gradients(lambda batch: embed(tiny_model, batch), batches, objective, torch.device("cpu"))
    for batch, cache in zip(batches, cached, strict=True):
        cache.loss(embed(tiny_model, batch)).backward()

    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert_close(loss, expected[name].detach(), rtol=1e-5, atol=1e-5)
    for name, gradient in gradients(tiny_model).items():
        # A temperature that no loss uses has no gradient in one step and a zero one in the other.
        expected_gradient = plain.get(name, torch.zeros_like(gradient))
        assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_dropout_is_the_same_in_both_passes(tiny_model, processor):
    """With a random forward the second pass must repeat the first one's masks, or the gradient is of another loss."""
    for module in tiny_model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.5
    tiny_model.train()
    batch = FGCLIPCollator(processor)([make_record(index, 1, 2) for index in range(4)])
    objective = Objective(parse_losses(STAGE2_LOSSES))
    state = torch.get_rng_state()
    objective.total(objective.losses(embed(tiny_model, batch), batch)).backward()
    plain = gradients(tiny_model)
    tiny_model.zero_grad()
    torch.set_rng_state(state)
    _, (cache,) = cache_gradients(lambda batch: embed(tiny_model, batch), [batch], objective, torch.device("cpu"))
    torch.rand(7)
    with cache.random_state.repeated():
        cache.loss(embed(tiny_model, batch)).backward()
    for name, gradient in gradients(tiny_model).items():
        assert_close(gradient, plain[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
