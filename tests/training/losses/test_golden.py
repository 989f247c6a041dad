"""Losses and gradients of the published model, from one packed forward."""

import pytest
import torch
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel, pack_texts
from training.data.collator import NO_TEXT
from training.objective import Objective, parse_losses
from training.options import STAGE2_LOSSES

OBJECTIVE = Objective(parse_losses(STAGE2_LOSSES))
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def golden_batch(golden: dict[str, torch.Tensor]) -> dict:
    """The golden inputs as the collator would give them: what the published step pads, packed and indexed."""
    texts: list[list[int]] = []

    def rows(input_ids: torch.Tensor) -> torch.Tensor:
        first = len(texts)
        texts.extend(row[: row.tolist().index(49407) + 1].tolist() for row in input_ids)
        return torch.arange(first, len(texts))

    batch = {"pixel_values": golden["pixel_values"]}
    batch["long_index"] = rows(golden["text_long"])
    long_text = [True] * len(texts)
    batch["short_index"] = rows(golden["text_short"])
    region_mask = torch.arange(4) < golden["box_nums"].unsqueeze(1)
    region_rows = rows(golden["box_texts"]).unflatten(0, (3, 4))
    # The golden regions with hard negatives are boxes of their own: places 4 to 7 of each image.
    batch["boxes"] = torch.cat([golden["box_infos"], golden["hard_infos"]], dim=1)
    no_text = torch.full_like(region_rows, NO_TEXT)
    batch["region_index"] = torch.cat([region_rows.masked_fill(~region_mask, NO_TEXT), no_text], dim=1)
    hard_mask = torch.arange(4) < golden["hard_nums"].unsqueeze(1)
    image, place = hard_mask.nonzero(as_tuple=True)
    batch["hard_region_index"] = image * 8 + 4 + place
    batch["hard_index"] = rows(golden["hard_texts"]).unflatten(0, (-1, 11))
    batch["packed_texts"] = pack_texts(texts, long_text + [False] * (len(texts) - len(long_text)))
    return batch


@pytest.fixture
def losses(golden_model: FGCLIPModel, golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    batch = golden_batch(golden)
    outputs = golden_model(**{name: batch[name] for name in ("pixel_values", "packed_texts", "boxes")})
    return OBJECTIVE.losses(outputs, batch)


def test_losses(losses, golden):
    assert_close(losses["global"], golden["loss_global"], **CLOSE)
    assert_close(losses["global"] + 0.1 * losses["regional"], golden["loss_global_region"], **CLOSE)
    assert_close(OBJECTIVE.total(losses), golden["loss_total"], **CLOSE)


def test_gradients(golden_model, losses, golden):
    OBJECTIVE.total(losses).backward()
    gradients = {name: parameter.grad for name, parameter in golden_model.named_parameters()}
    expected = {name.removeprefix("grad::"): value for name, value in golden.items() if name.startswith("grad::")}
    assert len(expected) == 13
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        assert_close(
            gradients[name], gradient, rtol=1e-4, atol=1e-4 * scale, msg=lambda text, name=name: f"{name}: {text}"
        )
    norm = torch.stack([gradient.norm() for gradient in gradients.values() if gradient is not None]).norm()
    assert_close(norm, golden["grad_norm_total"], **CLOSE)
