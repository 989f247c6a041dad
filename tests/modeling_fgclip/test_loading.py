"""Ways to load and place a checkpoint, and the model inside other tools, in this process."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForZeroShotImageClassification,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    pipeline,
)

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.checkpoint_folder import add_integrations
from modeling_fgclip.pipeline_fgclip import RegionClassificationPipeline
from modeling_fgclip.vision_tower import vision_tower


@pytest.fixture
def checkpoint(tiny_model, processor, tmp_path):
    tiny_model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    add_integrations(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def image() -> Image.Image:
    return Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 30).convert("RGB")


@torch.no_grad()
def embeddings(model: FGCLIPModel, processor: FGCLIPProcessor, image: Image.Image) -> list[torch.Tensor]:
    inputs = processor(images=image, text=["a red star", "a dog runs over a field"], boxes=[[10, 5, 60, 70]])
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    output = model(**inputs)
    return [output.image_embeds.float(), output.text_embeds.float(), output.region_embeds[0].float()]


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification])
def test_auto_classes_with_the_package(auto, checkpoint):
    assert isinstance(auto.from_pretrained(checkpoint), FGCLIPModel)


@pytest.mark.parametrize("settings", [{"dtype": torch.bfloat16}, {"device_map": "cpu"}, {"device_map": "auto"}])
def test_precision_and_device_map(settings, checkpoint, tiny_model, processor, image):
    model = AutoModel.from_pretrained(checkpoint, **settings).eval()
    assert model.dtype == settings.get("dtype", torch.float32)
    expected = embeddings(tiny_model, processor, image)
    for found, wanted in zip(embeddings(model, processor, image), expected, strict=True):
        assert cosine_similarity(found, wanted).min() > (0.99 if "dtype" in settings else 1 - 1e-6)


def test_int8_keeps_cosine_similarity(checkpoint, tiny_model, processor, image):
    pytest.importorskip("torchao", reason="needs the extra quantize")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    quantized = AutoModel.from_pretrained(checkpoint, quantization_config=TorchAoConfig(Int8WeightOnlyConfig())).eval()
    layer = quantized.vision_model.encoder.layers[0].mlp.fc1.weight
    assert type(layer).__module__.startswith("torchao")
    expected = embeddings(tiny_model, processor, image)
    for found, wanted in zip(embeddings(quantized, processor, image), expected, strict=True):
        assert cosine_similarity(found, wanted).min() > 0.99


def test_region_pipeline(checkpoint, tiny_model, processor, image):
    regions = pipeline(
        model=str(checkpoint),
        processor=processor,
        pipeline_class=RegionClassificationPipeline,
        task="fine-grained-region-classification",
        trust_remote_code=True,
    )
    boxes, labels = [[10, 5, 60, 70], [0, 0, 40, 40]], ["a red star", "a dog", "a cat sleeps"]
    found = regions(image, boxes=boxes, candidate_labels=labels, top_k=2)
    with torch.no_grad():
        output = tiny_model(**processor(images=image, text=labels, boxes=boxes))
    scores = (output.region_embeds[0] @ output.text_embeds.t() * output.scales[1]).softmax(-1)
    for row, wanted in zip(found, scores, strict=True):
        best = wanted.topk(2)
        assert [entry["label"] for entry in row] == [labels[index] for index in best.indices]
        assert_close(torch.tensor([entry["score"] for entry in row]), best.values, rtol=1e-4, atol=1e-5)
    normalized = regions(
        [{"image": image, "boxes": [[0.1, 0.0625, 0.6, 0.875]], "candidate_labels": labels}], box_format="normalized"
    )
    ((same,),) = normalized
    assert [entry["label"] for entry in same[:2]] == [entry["label"] for entry in found[0]]
    assert [entry["score"] for entry in same[:2]] == pytest.approx([entry["score"] for entry in found[0]], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidate_labels": ["a"]}, "boxes=None"),
        ({"boxes": [[0, 0, 9, 9]], "candidate_labels": []}, "candidate_labels"),
        ({"boxes": [[0, 0, 900, 9]], "candidate_labels": ["a"]}, "outside the image"),
        ({"boxes": [[0, 0, 9, 9]], "candidate_labels": ["a"], "topk": 3}, "topk"),
    ],
)
def test_region_pipeline_refuses(arguments, message, tiny_model, processor, image):
    regions = RegionClassificationPipeline(tiny_model, processor=processor)
    with pytest.raises(ValueError, match=message):
        regions(image, **arguments)


@torch.no_grad()
def test_vision_tower_inside_llava(tiny_model, processor):
    tower, _ = vision_tower(tiny_model, processor)
    language = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=100
    )
    llava = LlavaForConditionalGeneration(LlavaConfig(vision_config=tower.config, text_config=language)).eval()
    llava.model.vision_tower.load_state_dict(tower.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    features = llava.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
    assert_close(features, tiny_model.vision_model.trunk(pixels), rtol=1e-4, atol=1e-5)


def test_completing_a_folder_that_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"config.json is missing"):
        add_integrations(tmp_path)
