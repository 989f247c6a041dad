"""The MLP against CLIP's own: values, gradients, what the backward pass keeps, and who still takes CLIP's way."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPMLP

from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from modeling_fgclip.mlp import FGCLIPMLP
from tests.conftest import TINY
from training.efficiency.lora import add_lora


def make(activation: str = "quick_gelu") -> FGCLIPMLP:
    mlp = FGCLIPMLP(CLIPTextConfig(hidden_size=8, intermediate_size=32, hidden_act=activation))
    nn.init.normal_(mlp.fc1.bias), nn.init.normal_(mlp.fc2.bias)
    return mlp.double()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_values_and_gradients_are_clips(activation):
    mlp = make(activation)
    states = 3 * torch.randn(2, 5, 8, dtype=torch.float64)
    results = []
    for forward in (CLIPMLP.forward, FGCLIPMLP.forward):
        given = states.clone().requires_grad_()
        output = forward(mlp, given)
        weights = list(mlp.parameters())
        results.append([output, *torch.autograd.grad(output.square().sum(), [given, *weights])])
    for ours, clips in zip(results[1], results[0], strict=True):
        assert_close(ours, clips)


def test_two_wide_tensors_are_kept_where_clip_keeps_three():
    mlp, states = make(), torch.randn(7, 8, dtype=torch.float64)
    counts = []
    for forward in (CLIPMLP.forward, FGCLIPMLP.forward):
        kept: list[torch.Tensor] = []

        def keep(tensor: torch.Tensor, kept: list[torch.Tensor] = kept) -> torch.Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = forward(mlp, states)
        counts.append(len({tensor.untyped_storage().data_ptr() for tensor in kept if tensor.shape == (7, 32)}))
        assert output.shape == (7, 8)
    assert counts == [3, 2]


def _with_hook(mlp: FGCLIPMLP, called: list) -> None:
    mlp.fc1.register_forward_pre_hook(lambda module, inputs: called.append("hook"))


def _with_forward(mlp: FGCLIPMLP, called: list) -> None:
    plain = mlp.fc2.forward
    mlp.fc2.forward = lambda states: called.append("forward") or plain(states)  # as accelerate's offloading does


@pytest.mark.parametrize("change", [_with_hook, _with_forward])
def test_a_changed_layer_is_called(change):
    mlp, called = make(), []
    states = torch.randn(3, 8, dtype=torch.float64)
    expected = mlp(states)
    change(mlp, called)
    assert_close(mlp(states), expected)
    assert len(called) == 1


def test_an_adapter_on_the_mlp_counts(tiny_model, processor):
    batch = processor(text=["a dog", "a red star with a dark border"])["input_ids"]
    before = tiny_model.get_text_features(batch)
    adapted = copy.deepcopy(tiny_model)
    add_lora(adapted, rank=2, alpha=4, targets=["fc1"])
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    assert not torch.allclose(adapted.get_text_features(batch), before, atol=1e-2)


def test_random_weights_are_as_without_it(monkeypatch):
    """The MLP takes the layers that CLIP made, so that a seed gives the weights that it gave."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(FGCLIPModel(FGCLIPConfig(**TINY)).state_dict())
        for module in ("text_encoder", "vision_encoder"):
            monkeypatch.setattr(f"modeling_fgclip.{module}.take_mlps", lambda encoder: None)
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():
        assert_close(value, models[1][name], rtol=0, atol=0)
