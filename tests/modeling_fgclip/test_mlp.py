"""The MLP against CLIP's own: values, gradients, what the backward pass keeps, and who still takes CLIP's way."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPMLP

from modeling_fgclip import FGCLIPConfig, FGCLIPModel
from modeling_fgclip.mlp import FGCLIPMLP, take_mlps
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


def _with_backward_hook(mlp: FGCLIPMLP, called: list) -> None:
    mlp.fc2.register_full_backward_hook(lambda module, inputs, outputs: called.append("backward"))


def _with_hooked_activation(mlp: FGCLIPMLP, called: list) -> None:
    mlp.activation_fn.register_forward_hook(lambda module, inputs, output: called.append("activation"))


@pytest.mark.parametrize("change", [_with_hook, _with_forward, _with_backward_hook, _with_hooked_activation])
def test_a_changed_layer_is_called(change):
    mlp, called = make(), []
    states = torch.randn(3, 8, dtype=torch.float64)
    expected = mlp(states)
    change(mlp, called)
    output = mlp(states)
    assert_close(output, expected)
    output.sum().backward()
    assert len(called) == 1


def test_another_activation_and_a_layer_without_bias_are_taken():
    mlp, states = make(), torch.randn(3, 8, dtype=torch.float64)
    mlp.activation_fn = nn.ReLU()
    mlp.fc1 = nn.Linear(8, 32, bias=False).double()
    assert_close(mlp(states), mlp.fc2(mlp.fc1(states).relu()))


def test_float16_overflows_no_sooner_than_clips():
    mlp = make().half()
    nn.init.constant_(mlp.fc1.weight, 5000.0)
    states = torch.ones(1, 8, dtype=torch.float16)  # 40,000 inside
    expected = CLIPMLP.forward(mlp, states)
    assert expected.isfinite().all()
    assert_close(mlp(states), expected, rtol=0, atol=0)


def test_a_users_own_mlp_stays(tiny_model):
    class Mine(CLIPMLP):
        pass

    encoder = tiny_model.text_model.encoder
    encoder.layers[0].mlp.__class__ = Mine
    encoder.layers[1].mlp.__class__ = CLIPMLP
    take_mlps(encoder)
    assert [type(layer.mlp) for layer in encoder.layers] == [Mine, FGCLIPMLP]


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
