"""Counted FLOPs against those that PyTorch's counter sees."""

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.training.records import make_record
from training.data.collator import FGCLIPCollator
from training.data.pixels import normalized
from training.forward import embed
from training.objective import Objective, parse_losses
from training.planning.flops import batch_flops, image_flops, step_flops, text_flops

RECORDS = [(0, 0), (2, 3), (4, 10)]  # regions and negatives of each


def batch_of(processor, max_regions: int) -> dict:
    records = [make_record(number, *counts) for number, counts in enumerate(RECORDS)]
    batch = FGCLIPCollator(processor, max_regions=max_regions)(records)
    return batch | {"pixel_values": normalized(batch)}


@pytest.mark.parametrize("max_regions", [0, 4], ids=["stage 1", "stage 2"])
def test_forward_and_backward_agree_with_the_counter(tiny_model, processor, max_regions):
    batch = batch_of(processor, max_regions)
    # The counter sees the products of plain attention, but not those of the CPU's fused kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = embed(tiny_model, batch)
        forward = counter.get_total_flops()
        regions = 0 if output.region_embeds is None else output.region_embeds.sum()
        (output.image_embeds.sum() + output.text_embeds.sum() + regions).backward()
    assert forward == batch_flops(tiny_model.config, batch) // 3
    # Pixels and pooling weights take no gradient, the only products with one backward instead of two.
    vision, patches, images = tiny_model.config.vision_config, 16, len(RECORDS)
    without = images * patches * 2 * 3 * vision.patch_size**2 * vision.hidden_size
    without += images * max_regions * patches * 2 * tiny_model.config.projection_dim
    assert counter.get_total_flops() == 3 * forward - without


def test_crops_and_a_teacher_count(tiny_model, processor):
    records = [make_record(number, *counts) for number, counts in enumerate(RECORDS)]
    objective = Objective(parse_losses(["global", "self_distillation"]))
    batch = FGCLIPCollator(processor, **objective.collation())(records)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        embed(tiny_model, batch)
    assert 3 * counter.get_total_flops() == batch_flops(tiny_model.config, batch)
    one_view = step_flops(tiny_model.config, 3, 16, (), regions=12)
    batch = FGCLIPCollator(processor, **Objective(parse_losses(["distillation"])).collation())(records)
    # A teacher has no backward.
    assert batch_flops(tiny_model.config, batch) == one_view + 6 * image_flops(tiny_model.config, 16)


def test_non_square_images(tiny_model, processor):
    tiny_model.set_attn_implementation("eager")
    batch = batch_of(processor, 0)
    batch["pixel_values"] = batch["pixel_values"][..., :48]
    vision = tiny_model.vision_model
    with FlopCounterMode(display=False) as counter:
        tiny_model.visual_projection(vision.pool(vision.trunk(batch["pixel_values"])))
    assert counter.get_total_flops() == len(RECORDS) * image_flops(tiny_model.config, 12)


def test_a_step_is_the_sum_of_its_parts(tiny_model):
    config = tiny_model.config
    parts = 2 * image_flops(config, 16) + text_flops(config, [(3, 7)]) + text_flops(config, [(1, 20)])
    assert step_flops(config, 2, 16, [(3, 7), (1, 20)]) == 3 * parts
