"""The ways the benchmark compares are one step."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks.padded_step import pad_batch
from benchmarks.stage2_batch import make_batch
from benchmarks.stage2_step import forward, objective_of
from training.data.collator import NO_TEXT


def losses_and_gradients(model, batch, case):
    model.zero_grad()
    objective = objective_of(case)
    losses = objective.losses(forward(model, batch), batch)
    objective.total(losses).backward()
    return losses, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("share_prefixes", [False, True])
@pytest.mark.parametrize("case", ["hard", "typical", "stage1"])
def test_padded_and_packed_give_one_loss_and_one_gradient(tiny_model, case, share_prefixes):
    batch = make_batch(tiny_model.config, images=3, case=case, share_prefixes=share_prefixes)
    tiny_model.double()
    batch["pixel_values"] = batch["pixel_values"].double()
    packed = losses_and_gradients(tiny_model, batch, case)
    padded = losses_and_gradients(tiny_model, pad_batch(tiny_model.config, batch), case)
    assert packed[0].keys() == padded[0].keys()
    for name, loss in padded[0].items():
        assert_close(packed[0][name], loss, rtol=1e-6, atol=1e-7)  # the losses are formed in float32
    for name, gradient in padded[1].items():
        if gradient is None:
            assert packed[1][name] is None, name
        else:
            assert_close(
                packed[1][name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_texts_of_a_hard_and_of_a_typical_image(tiny_model):
    hard = make_batch(tiny_model.config, images=8, case="hard")
    assert (hard["hard_index"] != NO_TEXT).sum() == 8 * 44
    assert hard["boxes"].shape == (8, 4, 4)
    padded = pad_batch(tiny_model.config, hard)["padded_texts"]
    assert [tuple(ids.shape) for ids in padded] == [(8, 248), (8, 77), (32, 77), (8 * 44, 77)]
    typical = make_batch(tiny_model.config, images=400, case="typical")
    regions = (typical["region_index"] != NO_TEXT).sum().item()
    assert regions / 400 == pytest.approx(3.3, abs=0.15)
    assert len(typical["hard_index"]) / regions == pytest.approx(0.25, abs=0.05)
    assert torch.all(typical["boxes"][typical["region_index"] == NO_TEXT] == 0)
