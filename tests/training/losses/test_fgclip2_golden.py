"""Losses and gradients of the published FG-CLIP 2 (tests/fixtures/README.md), from one packed forward."""

import pytest
import torch
from torch.testing import assert_close

from modeling_fgclip import FGCLIP2Model, pack_full_texts
from training.losses import (
    cross_modal_rank_loss,
    hard_contrastive_loss,
    hard_negative_loss,
    margin_sums,
    next_margin,
    regional_contrastive_loss,
    sigmoid_contrastive_loss,
    textual_contrast_loss,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def parts(golden_model2: FGCLIP2Model, golden2: dict[str, torch.Tensor]):
    """Every part of the loss at the margin it is given, from one forward of the golden inputs."""
    with torch.no_grad():
        for name in ("logit_scale_finegraind", "logit_scale_hardneg"):
            getattr(golden_model2, name).copy_(golden2[name])
    mask = golden2["pixel_attention_mask_64"]
    texts = [golden2[name] for name in ("text_long", "text_short", "box_texts", "hard_texts")]
    kinds = [kind for kind, ids in zip(("long", "short", "box", "box"), texts, strict=True) for _ in ids]
    packed = pack_full_texts([row for ids in texts for row in ids.tolist()], kinds, 64, 196, 0)
    output = golden_model2(
        pixel_values=(golden2["patches_64_uint8"].float() / 127.5 - 1) * mask.unsqueeze(-1),
        pixel_attention_mask=mask,
        spatial_shapes=golden2["spatial_shapes_64"],
        boxes=torch.cat([golden2["box_infos"], golden2["hard_infos"]], dim=1),
        packed_texts=packed,
    )
    long_text, short_text, box_text, hard_text = output.text_embeds.split([len(ids) for ids in texts])
    region, hard_region = output.region_embeds[:, :4], output.region_embeds[:, 4:]
    has_box = torch.arange(4) < golden2["box_nums"].unsqueeze(1)
    hard_region = hard_region[torch.arange(4) < golden2["hard_nums"].unsqueeze(1)]
    hard_text = hard_text.unflatten(0, (-1, 11))
    every = torch.ones(hard_text.shape[:2], dtype=torch.bool)
    global_scale, fine_scale, hard_scale = output.scales
    image, bias = output.image_embeds, output.bias
    hard = (hard_region, hard_text, hard_scale, every)
    parts = {
        "long": sigmoid_contrastive_loss(image, long_text, global_scale, bias),
        "short": sigmoid_contrastive_loss(image, short_text, global_scale, bias),
        "regional": regional_contrastive_loss(region, box_text.unflatten(0, (4, 4)), fine_scale, has_box),
        "tic": textual_contrast_loss(box_text, has_box.flatten()),
        "contrastive": hard_contrastive_loss(*hard),
        "pair": hard_negative_loss(*hard),
        "sums": margin_sums(*hard),
    }
    return lambda margin: parts | {"rank": cross_modal_rank_loss(*hard, torch.as_tensor(margin))}


def hard_total(parts) -> torch.Tensor:
    return 0.6 * parts["contrastive"] + 3 * parts["pair"] + 0.4 * parts["rank"]


def total(parts) -> torch.Tensor:
    return parts["long"] + parts["short"] + 0.2 * parts["regional"] + 0.1 * parts["tic"] + 0.5 * hard_total(parts)


def test_losses(parts, golden2):
    found = parts(0.0)
    for name, expected in {
        "short": "loss_global_short_only",
        "regional": "loss_regional",
        "tic": "loss_tic",
        "contrastive": "loss_hard_contrastive",
        "pair": "loss_hard_pair",
        "rank": "loss_rank_threshold_0",
    }.items():
        assert_close(found[name].reshape(()), golden2[expected], **CLOSE)
    assert_close(found["long"] + found["short"], golden2["loss_global"], **CLOSE)
    assert_close(hard_total(found).reshape(()), golden2["loss_hard_total_threshold_0"], **CLOSE)
    assert_close(parts(0.35)["rank"], golden2["loss_rank_threshold_035"], **CLOSE)
    assert_close(hard_total(parts(0.35)), golden2["loss_hard_total_threshold_035"], **CLOSE)


def test_two_steps_of_the_margin(parts, golden2):
    margin = torch.tensor(0.0)
    for step in (1, 2):
        found = parts(margin)
        assert_close(total(found).reshape(()), golden2[f"loss_total_step_{step}"], **CLOSE)
        margin = next_margin(found["sums"], margin)
        assert_close(margin, golden2[f"threshold_after_step_{step}"], **CLOSE)


def test_gradients(golden_model2, parts, golden2):
    loss = total(parts(0.35)).reshape(())
    assert_close(loss, golden2["loss_total_threshold_035"], **CLOSE)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in golden_model2.named_parameters()}
    expected = {name.removeprefix("grad::"): value for name, value in golden2.items() if name.startswith("grad::")}
    assert len(expected) == 15
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        assert_close(
            gradients[name], gradient, rtol=1e-4, atol=1e-4 * scale, msg=lambda text, name=name: f"{name}: {text}"
        )
    for table in ("ori", "res"):
        name = f"text_model.embeddings.position_embedding_{table}.weight"
        assert_close(gradients[name].norm(dim=-1), golden2[f"grad_row_norms::{name}"], rtol=1e-4, atol=1e-5)
    norm = torch.stack([gradient.norm() for gradient in gradients.values() if gradient is not None]).norm()
    assert_close(norm, golden2["grad_norm_total"], rtol=1e-4, atol=1e-5)
