"""Adapters against the source models' own methods, and dense features against an explicit value path."""

from __future__ import annotations

import copy
import json
import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPProcessor,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from eval.adapters import (
    CLIPAdapter,
    FGCLIP2Adapter,
    FGCLIPAdapter,
    Siglip2NaFlexAdapter,
    SiglipAdapter,
    adapter_for,
    load_adapter,
)
from eval.embed import Embedder
from modeling_fgclip.eight_bit_images import normalized_images, pixel_levels
from modeling_fgclip.region_pooling import pool_regions
from tests.eval.adapter_checks import BOXES, TEXTS, require_fingerprint
from tests.eval.color_model import ColorModel


def value_path(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """A transformers encoder layer without attention weights, written out."""
    hidden = hidden + layer.self_attn.out_proj(layer.self_attn.v_proj(layer.layer_norm1(hidden)))
    return hidden + layer.mlp(layer.layer_norm2(hidden))


@torch.no_grad()
def test_fgclip(tiny_fgclip, tiny_processor, photos):
    adapter = adapter_for(tiny_fgclip, tiny_processor)
    assert isinstance(adapter, FGCLIPAdapter)
    inputs = adapter.preprocess(photos, squash=True)
    pixels = tiny_processor(images=photos)["pixel_values"]
    assert inputs["pixel_values"].dtype == torch.uint8
    normalized = normalized_images(inputs["pixel_values"], pixel_levels(tiny_processor))
    torch.testing.assert_close(normalized, pixels, rtol=0, atol=0)
    for given in (inputs, {"pixel_values": pixels}):
        torch.testing.assert_close(adapter.encode_images(given), tiny_fgclip.get_image_features(pixels))
    dense = tiny_fgclip.get_image_dense_features(pixels)
    torch.testing.assert_close(adapter.encode_dense(inputs).flatten(1, 2), dense)
    regions = tiny_fgclip.get_region_features(pixels, [BOXES[0], BOXES[1, :1]])
    torch.testing.assert_close(adapter.encode_regions(inputs, BOXES)[0], regions[0])
    torch.testing.assert_close(adapter.encode_regions(inputs, BOXES)[1, :1], regions[1])
    for kind in ("short", "long"):
        long = kind == "long"
        expected = tiny_fgclip.get_text_features(
            tiny_processor(text=TEXTS, long_text=long)["input_ids"], walk_short_pos=not long
        )
        torch.testing.assert_close(
            adapter.encode_texts(adapter.tokenize(TEXTS, kind), kind), expected, rtol=1e-4, atol=1e-6
        )
    assert adapter.settings()["resolution"] == "32×32"
    require_fingerprint(adapter_for(copy.deepcopy(tiny_fgclip), tiny_processor))
    darker = copy.deepcopy(tiny_processor)
    darker.image_processor.image_mean = [0.9, 0.9, 0.9]
    assert adapter_for(tiny_fgclip, darker).fingerprint() != adapter.fingerprint()


@torch.no_grad()
def test_clip_equals_fgclip_with_the_same_weights(tiny_clip, tiny_fgclip, tiny_processor, photos):
    """The same dense and region features as FG-CLIP's own methods, which golden numbers of the published code cover."""
    clip, fgclip = CLIPAdapter(tiny_clip, tiny_processor), FGCLIPAdapter(tiny_fgclip, tiny_processor)
    inputs = clip.preprocess(photos, squash=True)
    torch.testing.assert_close(
        clip.encode_images(inputs), fgclip.encode_images(fgclip.preprocess(photos, squash=True))
    )
    torch.testing.assert_close(clip.encode_dense(inputs), fgclip.encode_dense(inputs), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        clip.encode_regions(inputs, BOXES)[0], fgclip.encode_regions(inputs, BOXES)[0], rtol=1e-4, atol=1e-6
    )


@torch.no_grad()
def test_clip_uses_the_checkpoints_own_preprocessing_and_features(tiny_clip, tiny_processor, photos):
    cropping = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32), tiny_processor.tokenizer)
    adapter = adapter_for(tiny_clip, cropping)
    inputs = cropping(text=TEXTS, images=photos, return_tensors="pt", padding=True)
    output = tiny_clip(**inputs)
    images = adapter.encode_images(adapter.preprocess(photos, squash=False))
    torch.testing.assert_close(nn.functional.normalize(images, dim=-1), output.image_embeds)
    texts = adapter.encode_texts(adapter.tokenize(TEXTS, "short"), "short")
    torch.testing.assert_close(nn.functional.normalize(texts, dim=-1), output.text_embeds)
    squashed = adapter.preprocess(photos, squash=True)["pixel_values"]
    assert squashed.shape == (2, 3, 32, 32)
    assert not torch.equal(squashed, inputs["pixel_values"])


class _CharacterProcessor:
    """SigLIP's tokenizers need files; the adapter uses `tokenizer` and `image_processor` alone."""

    def __init__(self, tokenizer, image_processor):
        self.tokenizer, self.image_processor = tokenizer, image_processor


SIGLIP_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 140,
    "max_position_embeddings": 48,
}
SIGLIP_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
}


@torch.no_grad()
def test_siglip(tiny_processor, photos):
    torch.manual_seed(0)
    model = SiglipModel(
        SiglipConfig(text_config=SIGLIP_TEXT, vision_config={**SIGLIP_VISION, "image_size": 32})
    ).eval()
    processor = _CharacterProcessor(
        tiny_processor.tokenizer, SiglipImageProcessorPil(size={"height": 32, "width": 32})
    )
    adapter = adapter_for(model, processor)
    assert type(adapter) is SiglipAdapter
    inputs = adapter.preprocess(photos, squash=True)
    tokens = adapter.tokenize(TEXTS, "short")
    assert tokens["input_ids"].shape == (2, 48)  # padded to the full length, as SigLIP was trained
    output = model(**tokens, **inputs)
    torch.testing.assert_close(nn.functional.normalize(adapter.encode_images(inputs), dim=-1), output.image_embeds)
    torch.testing.assert_close(
        nn.functional.normalize(adapter.encode_texts(tokens, "short"), dim=-1), output.text_embeds
    )
    vision = model.vision_model
    hidden = vision.encoder.layers[0](vision.embeddings(inputs["pixel_values"]), None)
    tokens = vision.post_layernorm(value_path(vision.encoder.layers[1], hidden))
    _, _, value = vision.head.attention.in_proj_weight.chunk(3)
    _, _, bias = vision.head.attention.in_proj_bias.chunk(3)
    pooled = vision.head.attention.out_proj(tokens @ value.T + bias)
    expected = pooled + vision.head.mlp(vision.head.layernorm(pooled))
    torch.testing.assert_close(adapter.encode_dense(inputs).flatten(1, 2), expected, rtol=1e-4, atol=1e-6)
    assert adapter.encode_regions(inputs, BOXES).shape == (2, 2, 32)
    require_fingerprint(adapter)


@torch.no_grad()
def test_siglip2_naflex(tiny_processor, photos):
    torch.manual_seed(0)
    model = Siglip2Model(
        Siglip2Config(text_config=SIGLIP_TEXT, vision_config={**SIGLIP_VISION, "num_patches": 16})
    ).eval()
    processor = _CharacterProcessor(
        tiny_processor.tokenizer, Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    )
    adapter = adapter_for(model, processor)
    assert type(adapter) is Siglip2NaFlexAdapter
    native = adapter.preprocess(photos, squash=False)
    assert native["spatial_shapes"].tolist() != [[4, 4], [4, 4]]  # the aspect ratios are kept
    torch.testing.assert_close(adapter.encode_images(native), model.get_image_features(**native).pooler_output)
    with pytest.raises(ValueError, match="one by one"):
        adapter.encode_dense(native)
    vision = model.vision_model
    # Regions are read on the image's own grid: of each image alone, whatever is beside it.
    found = adapter.encode_regions(native, BOXES)
    for image, (rows, columns) in enumerate(native["spatial_shapes"].tolist()):
        alone = adapter.preprocess([photos[image]], squash=True)
        pixels, shapes = alone["pixel_values"], alone["spatial_shapes"]
        mask = alone["pixel_attention_mask"].bool()
        hidden = vision.encoder.layers[0](vision.embeddings(pixels, shapes), mask[:, None, None, :])
        tokens = vision.post_layernorm(value_path(vision.encoder.layers[1], hidden))
        expected = torch.stack([vision.head(tokens[:, i : i + 1]) for i in range(rows * columns)], 1)
        dense = expected.unflatten(1, (rows, columns))
        torch.testing.assert_close(adapter.encode_dense(alone), dense, rtol=1e-4, atol=1e-5)
        units = BOXES[image : image + 1] * torch.tensor([columns, rows, columns, rows])
        torch.testing.assert_close(found[image], pool_regions(dense, units)[0], rtol=1e-4, atol=1e-5)
    require_fingerprint(adapter)


@torch.no_grad()
def test_fgclip2(tiny_fgclip2, fgclip2_processor, photos, tmp_path):
    tiny_fgclip2.boxtext_head.weight.copy_(torch.randn(48, 48))
    adapter = adapter_for(tiny_fgclip2, fgclip2_processor)
    assert isinstance(adapter, FGCLIP2Adapter)
    inputs = adapter.preprocess(photos, squash=True)
    assert inputs["spatial_shapes"].tolist() == fgclip2_processor(images=photos)["spatial_shapes"].tolist()
    torch.testing.assert_close(adapter.encode_images(inputs), tiny_fgclip2.get_image_features(**inputs))
    regions = tiny_fgclip2.get_region_features(**inputs, boxes=[BOXES[0], BOXES[1, :1]])
    torch.testing.assert_close(adapter.encode_regions(inputs, BOXES)[0], regions[0])
    torch.testing.assert_close(adapter.encode_regions(inputs, BOXES)[1, :1], regions[1])
    with pytest.raises(ValueError, match="one by one"):
        adapter.encode_dense(inputs)
    alone = adapter.preprocess(photos[:1], squash=True)
    dense = tiny_fgclip2.get_image_dense_features(**alone)[0]
    torch.testing.assert_close(adapter.encode_dense(alone)[0], dense)
    for kind, walk_type in (("short", "short"), ("long", "long"), ("region", "box")):
        ids = fgclip2_processor(text=TEXTS, long_text=kind == "long")["input_ids"]
        expected = tiny_fgclip2.get_text_features(ids, walk_type=walk_type)
        found = adapter.encode_texts(adapter.tokenize(TEXTS, kind), kind)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    require_fingerprint(adapter)
    tiny_fgclip2.save_pretrained(tmp_path)
    fgclip2_processor.save_pretrained(tmp_path)
    assert isinstance(load_adapter(str(tmp_path)), FGCLIP2Adapter)


@torch.no_grad()
def test_region_texts_are_asked_for_by_their_kind(tiny_fgclip2, fgclip2_processor, color_model):
    """The embedder keeps a phrase and a caption of the same words apart exactly if the model does."""
    tiny_fgclip2.boxtext_head.weight.copy_(torch.randn(48, 48))
    embedder = Embedder(adapter_for(tiny_fgclip2, fgclip2_processor), progress=False)
    short, region = embedder.texts(TEXTS), embedder.texts(TEXTS, "region")
    assert (short - region).abs().max() > 0.1
    plain = Embedder(color_model, progress=False)
    plain.texts(TEXTS)
    plain.texts(TEXTS, "region")
    assert sorted(color_model.texts_encoded) == sorted(TEXTS)


def test_load_adapter_chooses_by_config(tiny_checkpoint, tiny_clip, tiny_processor, tmp_path):
    assert isinstance(load_adapter(str(tiny_checkpoint)), FGCLIPAdapter)
    tiny_clip.save_pretrained(tmp_path / "clip")
    CLIPProcessor(tiny_processor.image_processor, tiny_processor.tokenizer).save_pretrained(tmp_path / "clip")
    adapter = load_adapter(str(tmp_path / "clip"), name="baseline")
    assert (type(adapter), adapter.name) == (CLIPAdapter, "baseline")
    assert load_adapter(str(tmp_path / "clip")).name == f"{tmp_path.name}/clip"  # reports tell nothing of the machine
    config = json.loads((tmp_path / "clip/config.json").read_text())
    config |= {"architectures": ["FGCLIPModel"]}  # the published FG-CLIP says model_type clip
    (tmp_path / "clip/config.json").write_text(json.dumps(config))
    assert isinstance(load_adapter(str(tmp_path / "clip")), FGCLIPAdapter)
    (tmp_path / "clip/processor_config.json").unlink()
    with pytest.raises(
        ValueError, match="is not complete: an evaluation needs weights, image processor and tokenizer"
    ):
        load_adapter(str(tmp_path / "clip"))
    (tmp_path / "clip/config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="of type 'bert'; there are adapters for fgclip, fgclip2, clip"):
        load_adapter(str(tmp_path / "clip"))
    with pytest.raises(ValueError, match="neither a folder with"):
        load_adapter(str(tmp_path / "nothing"))


def test_a_users_own_adapter_comes_by_name(monkeypatch):
    module = ModuleType("mine")
    module.Color = ColorModel
    monkeypatch.setitem(sys.modules, "mine", module)
    assert isinstance(load_adapter("whatever", custom="mine:Color"), ColorModel)
    with pytest.raises(ValueError, match=r"needs package\.module:Class"):
        load_adapter("whatever", custom="mine:Nothing")
