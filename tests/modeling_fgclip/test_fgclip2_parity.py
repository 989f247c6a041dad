"""FG-CLIP 2: the published model's numbers (tests/fixtures/README.md), to 1e-4 relative or better in float32."""

import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from modeling_fgclip import FGCLIP2Processor, pack_full_texts
from modeling_fgclip.text_positions import stretch_positions

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
# Dense features reach 9; float64 is 6e-5 away from the published float32 numbers as well.
CLOSE_DENSE = {"rtol": 1e-4, "atol": 6e-5}
BUDGETS = (64, 144)
KINDS = {"short": "text_short", "box": "text_short", "long": "text_long"}


def images(golden2, budget: int) -> dict[str, torch.Tensor]:
    mask = golden2[f"pixel_attention_mask_{budget}"]
    patches = (golden2[f"patches_{budget}_uint8"].float() / 127.5 - 1) * mask.unsqueeze(-1)
    shapes = golden2[f"spatial_shapes_{budget}"]
    return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}


def valid_boxes(golden2) -> torch.Tensor:
    return torch.arange(4) < golden2["box_nums"].unsqueeze(1)


@pytest.mark.parametrize("budget", BUDGETS)
def test_preprocessing_is_bit_equal(golden2, fgclip2_processor, budget):
    processor = FGCLIP2Processor(Siglip2ImageProcessorPil(), fgclip2_processor.tokenizer)
    pictures = [Image.fromarray(golden2[f"image_{index}"].numpy()) for index in range(4)]
    prepared = processor(images=pictures, max_num_patches=budget)
    for name, expected in images(golden2, budget).items():
        assert torch.equal(prepared[name], expected), name


def test_patch_budgets(golden2, fgclip2_processor):
    processor = FGCLIP2Processor(Siglip2ImageProcessorPil(), fgclip2_processor.tokenizer)
    sizes = zip(golden2["dynamic_sizes_wh"].tolist(), golden2["dynamic_sizes_patches_h_w"].tolist(), strict=True)
    for (width, height), (budget, *grid) in sizes:
        prepared = processor(images=Image.new("RGB", (width, height)))
        assert prepared["pixel_values"].shape == (1, budget, 768)
        assert prepared["spatial_shapes"].tolist() == [grid]
    for index in range(4):
        picture = Image.fromarray(golden2[f"image_{index}"].numpy())
        prepared = processor(images=picture)
        assert prepared["pixel_values"].shape[1] == golden2["dynamic_num_patches_alone"][index]
        assert torch.equal(prepared["spatial_shapes"][0], golden2["dynamic_spatial_shapes_alone"][index])


@torch.no_grad()
@pytest.mark.parametrize("budget", BUDGETS)
def test_images(golden2, golden_model2, budget):
    inputs = images(golden2, budget)
    valid = inputs["pixel_attention_mask"].unsqueeze(-1)
    positions = golden_model2.vision_model.embeddings.position_embeddings(inputs["spatial_shapes"], budget)
    assert_close(positions * valid, golden2[f"position_embeddings_{budget}"], **CLOSE)
    states = golden_model2.vision_model.encode(**inputs)
    assert_close(states * valid, golden2[f"last_hidden_state_{budget}"], **CLOSE)
    assert_close(golden_model2.get_image_features(**inputs), golden2[f"image_features_{budget}"], **CLOSE)
    dense = golden2[f"dense_features_{budget}"]
    assert_close(golden_model2.get_image_dense_feature(**inputs), dense, **CLOSE_DENSE)
    for features, expected, (rows, columns) in zip(
        golden_model2.get_image_dense_features(**inputs), dense, inputs["spatial_shapes"].tolist(), strict=True
    ):
        assert_close(features, expected[: rows * columns].unflatten(0, (rows, columns)), **CLOSE_DENSE)


@torch.no_grad()
@pytest.mark.parametrize("budget", BUDGETS)
def test_regions(golden2, golden_model2, budget):
    inputs, valid, boxes = images(golden2, budget), valid_boxes(golden2), golden2["box_infos"]
    expected = golden2[f"region_features_{budget}"]
    padded = golden_model2.get_region_features(**inputs, boxes=boxes, box_mask=valid)
    assert_close(padded[valid], expected, **CLOSE_DENSE)
    assert not padded[~valid].any()
    sides = inputs["spatial_shapes"].flip(-1).repeat(1, 2).unsqueeze(1)
    listed = [image[chosen] for image, chosen in zip(boxes * sides * 16, valid, strict=True)]
    in_pixels = golden_model2.get_region_features(**inputs, boxes=listed, normalized=False)
    assert_close(torch.cat(in_pixels), expected, **CLOSE_DENSE)


@torch.no_grad()
@pytest.mark.parametrize("budget", BUDGETS)
def test_published_region_interfaces(golden2, golden_model2, budget):
    inputs, valid, boxes = images(golden2, budget), valid_boxes(golden2), golden2["box_infos"]
    sizes = golden2["image_sizes_hw"].tolist()
    infos = [
        (image[chosen] * torch.tensor([width, height, width, height])).tolist()
        for image, chosen, (height, width) in zip(boxes, valid, sizes, strict=True)
    ]
    features = golden_model2.get_image_region_features(**inputs, image_sizes=sizes, region_infos=infos)
    assert [len(image) for image in features] == golden2["box_nums"].tolist()
    assert_close(torch.cat(features), golden2[f"region_features_{budget}"], **CLOSE_DENSE)
    in_patches = boxes * inputs["spatial_shapes"].flip(-1).repeat(1, 2).unsqueeze(1)
    with_index = torch.cat([torch.zeros(4, 4, 1), in_patches], dim=-1)
    rows = torch.cat([torch.arange(4.0).view(4, 1, 1).expand(4, 4, 1), in_patches], dim=-1)[valid]
    for box_info in (
        [image[chosen] for image, chosen in zip(in_patches, valid, strict=True)],
        [image[chosen] for image, chosen in zip(with_index, valid, strict=True)],
        rows,
    ):
        found = golden_model2.get_image_box_roi_features(**inputs, box_info=box_info)
        assert_close(found, golden2[f"box_roi_features_{budget}"], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_logits(golden2, golden_model2, kind):
    input_ids, inputs = golden2[KINDS[kind]], images(golden2, 64)
    features = golden_model2.get_text_features(input_ids, walk_type=kind)
    assert_close(features, golden2[f"text_features_{kind}"], **CLOSE)
    output = golden_model2(input_ids=input_ids, **inputs, walk_type=kind, return_loss=True)
    assert_close(output.logits_per_image, golden2[f"logits_per_image_{kind}"], **CLOSE)
    assert_close(output.loss, golden2[f"loss_sigmoid_{kind}"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_packed_texts(golden2, golden_model2):
    texts = [*golden2["text_long"].tolist(), *golden2["text_short"].tolist(), *golden2["text_short"].tolist()]
    kinds = ["long"] * 4 + ["short"] * 4 + ["box"] * 4
    order = torch.randperm(12)
    packed = pack_full_texts([texts[i] for i in order], [kinds[i] for i in order], 64, 196, 0)
    # A caption that is a phrase as well is one row.
    assert packed["length_groups"] == [(4, 64), (4, 196)]
    features = golden_model2.get_packed_text_features(packed)
    expected = torch.cat([golden2[f"text_features_{kind}"] for kind in ("long", "short", "box")])
    assert_close(features, expected[order], **CLOSE)


def test_position_stretching(golden2):
    assert_close(stretch_positions(golden2["position_embedding"]), golden2["position_embedding_resized"], **CLOSE)


def test_historical_token_ids_are_put_right(golden_model2):
    text = golden_model2.config.text_config
    assert (text.pad_token_id, text.eos_token_id, text.bos_token_id) == (0, 1, 2)
    assert (text.max_position_embeddings, text.longtext_len) == (64, 196)
