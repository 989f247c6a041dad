"""What works otherwise on a GPU than on a CPU: attention in packed texts, pixels, dropout in two passes, compiled models."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from benchmarks.stage2_batch import make_batch
from modeling_fgclip import packed_text
from modeling_fgclip.eight_bit_images import normalized_images, pixel_levels
from tests.gpu.test_step import distance, on
from tests.training.one_step import FGCLIP, Settings, configuration, make_batches, prepare
from tests.training.test_engines import OBJECTIVE
from training.efficiency.compiling import compile_encoders
from training.efficiency.gradient_cache import cache_gradients
from training.efficiency.lora import add_lora
from training.forward import embed


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("ends_only", [False, True])
def test_variable_length_attention_is_attention_by_length(causal, ends_only, device):
    lengths = [3, 3, 8, 17, 17, 17, 130, 248]
    packed = packed_text.pack_texts([range(1, length + 1) for length in lengths], [False] * len(lengths))
    rows = len(lengths) if ends_only else sum(lengths)
    shapes = (1, 8, rows, 64), (1, 8, sum(lengths), 64), (1, 8, sum(lengths), 64)
    inputs = [torch.randn(shape).to(device, torch.bfloat16).requires_grad_() for shape in shapes]
    module = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    weight = torch.randn(1, rows, 8, 64, device=device)
    results = []
    for packed_texts, by_length in ((on(device, packed), False), (on(device, packed), True)):
        tensors = [tensor.detach().float().requires_grad_() if by_length else tensor for tensor in inputs]
        given = packed_text.packed_attention(module, *tensors, packed_texts, 64**-0.5, 0.0, ends_only, causal)
        results.append([given, *torch.autograd.grad((given.float() * weight).sum(), tensors)])
    for half, single in zip(*results, strict=True):
        assert distance(half, single) < 1e-2


def test_pixels_become_the_processors_floats_bit_for_bit(processor, device):
    levels = pixel_levels(processor)
    pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    given = normalized_images(pixels.to(device), levels.to(device))
    expected = processor.image_processor(list(pixels.numpy()), do_resize=False, return_tensors="pt")["pixel_values"]
    assert_close(given.cpu(), expected, rtol=0, atol=0)


def test_dropout_is_the_same_in_both_passes(device):
    settings = Settings(**FGCLIP)
    config = configuration(settings)
    model = prepare(family_model(config), settings)
    add_lora(model, rank=4, alpha=8, dropout=0.5)
    model.to(device)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, so that dropout would not show
            torch.nn.init.normal_(parameter, std=0.1)
    (batch,) = on(device, make_batches(config, settings))
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    torch.manual_seed(3)
    OBJECTIVE.total(OBJECTIVE.losses(embed(model, batch), batch)).backward()
    plain = {name: weight.grad.clone() for name, weight in trained.items() if weight.grad is not None}
    model.zero_grad()
    torch.manual_seed(3)
    _, (cache,) = cache_gradients(lambda batch: embed(model, batch), [batch], OBJECTIVE, torch.device(device))
    torch.rand(7, device=device)
    with cache.random_state.repeated():
        cache.loss(embed(model, batch)).backward()
    for name, gradient in plain.items():
        assert distance(trained[name].grad, gradient) < 1e-3, name


def family_model(config):
    from modeling_fgclip.family import family_of

    return family_of(config).model(config)


@pytest.mark.parametrize("share_prefixes", [False, True])
def test_compiled_blocks_give_the_same(device, share_prefixes):
    settings = Settings(**FGCLIP)
    config = configuration(settings)
    model = prepare(family_model(config), settings).to(device)
    compiled = copy.deepcopy(model)
    compile_encoders(compiled)
    for seed in range(2):  # other lengths than before
        (batch,) = on(device, [make_batch(config, 2 + seed, "hard", seed, share_prefixes)])
        results = []
        for each in (model, compiled):
            each.zero_grad()
            with torch.autocast(device, torch.bfloat16):
                output = embed(each, batch)
            loss = OBJECTIVE.total(OBJECTIVE.losses(output, batch))
            loss.backward()
            results.append((loss, torch.cat([w.grad.flatten() for w in each.parameters() if w.grad is not None])))
        (plain_loss, plain), (loss, gradient) = results
        assert distance(loss.detach(), plain_loss.detach()) < 1e-2
        assert distance(gradient, plain) < 5e-2
