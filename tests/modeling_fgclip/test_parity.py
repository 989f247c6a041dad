"""The published model's numbers (tests/fixtures/README.md), to 1e-4 relative or better in float32."""

import torch
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel, pack_texts
from modeling_fgclip.text_positions import stretch_positions

CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def _unpadded(input_ids: torch.Tensor, end: int = 49407) -> list[list[int]]:
    return [row[: row.tolist().index(end) + 1].tolist() for row in input_ids]


@torch.no_grad()
def test_image_features(golden_model, golden):
    assert_close(golden_model.get_image_features(golden["pixel_values"]), golden["image_features"], **CLOSE)


@torch.no_grad()
def test_short_text_features(golden_model, golden):
    assert_close(golden_model.get_text_features(golden["text_short"]), golden["text_features_short"], **CLOSE)


@torch.no_grad()
def test_long_text_features(golden_model, golden):
    features = golden_model.get_text_features(golden["text_long"], walk_short_pos=False)
    assert_close(features, golden["text_features_long"], **CLOSE)


@torch.no_grad()
def test_packed_text_features(golden_model, golden):
    short, long = _unpadded(golden["text_short"]), _unpadded(golden["text_long"])
    features = golden_model.get_packed_text_features(pack_texts([*long, *short], [True] * 3 + [False] * 3))
    assert_close(features[:3], golden["text_features_long"], **CLOSE)
    assert_close(features[3:], golden["text_features_short"], **CLOSE)


@torch.no_grad()
def test_dense_features(golden_model, golden):
    assert_close(golden_model.get_image_dense_features(golden["pixel_values"]), golden["dense_features"], **CLOSE)


@torch.no_grad()
def test_published_region_interface(golden_model, golden):
    boxes = golden["roi_boxes_feature_units"]
    as_list = golden_model.get_image_box_roi_features(golden["pixel_values"], box_info=list(boxes))
    image_index = torch.arange(3.0).repeat_interleave(4).unsqueeze(1)
    as_rows = torch.cat([image_index, boxes.flatten(0, 1)], dim=1)
    assert_close(as_list, golden["roi_features"], **CLOSE)
    as_tensor = golden_model.get_image_box_roi_features(golden["pixel_values"], box_info=as_rows)
    assert_close(as_tensor, golden["roi_features"], **CLOSE)


@torch.no_grad()
def test_region_features(golden_model, golden):
    expected = golden["roi_features"].unflatten(0, (3, 4))
    mask = torch.arange(4) < golden["box_nums"].unsqueeze(1)
    padded = golden_model.get_region_features(golden["pixel_values"], golden["box_infos"], mask)
    assert_close(padded, expected * mask.unsqueeze(-1), **CLOSE)
    pixels = [boxes[chosen] * 64 for boxes, chosen in zip(golden["box_infos"], mask, strict=True)]
    listed = golden_model.get_region_features(golden["pixel_values"], pixels, normalized=False)
    for features, image, chosen in zip(listed, expected, mask, strict=True):
        assert_close(features, image[chosen], **CLOSE)


@torch.no_grad()
def test_embeddings_at_another_resolution(golden_model, golden):
    embeddings = golden_model.vision_model.embeddings
    assert_close(
        embeddings(golden["pixel_values_other"], interpolate_pos_encoding=True), golden["embeddings_other"], **CLOSE
    )
    assert golden_model.get_image_dense_features(golden["pixel_values_other"]).shape == (2, 6 * 5, 24)


def test_position_stretching(golden):
    assert_close(stretch_positions(golden["position_embedding"]), golden["position_embedding_resized"], **CLOSE)


def test_legacy_configuration_is_put_right(golden_model: FGCLIPModel):
    text = golden_model.config.text_config
    assert (text.bos_token_id, text.eos_token_id, text.pad_token_id) == (49406, 49407, 49407)
    assert (text.max_position_embeddings, text.max_long_position_embeddings) == (77, 248)
    assert golden_model.config.model_type == "fgclip"
