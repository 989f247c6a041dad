"""FG-CLIP 2 inside other tools: pipelines, sentence-transformers, a tower for LLaVA, conversion."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModel, Siglip2Config, Siglip2Model, SiglipVisionModel, pipeline

# Not from the top, where transformers 5.17 hides it without torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from modeling_fgclip import FGCLIP2ImageProcessor, FGCLIP2Model, FGCLIP2Processor
from modeling_fgclip.checkpoint_folder import add_integrations, code_files, repository_files
from modeling_fgclip.convert import main as convert
from modeling_fgclip.family import FGCLIP, FGCLIP2, family_of
from tests.conftest import FIXTURES, TINY_FGCLIP2

REMOTE_PIPELINE = """
import importlib.util, json, sys
sys.path = [path for path in sys.path if path not in ("", {repository!r})]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
assert importlib.util.find_spec("modeling_fgclip") is None
from PIL import Image
from transformers import pipeline
classify = pipeline("zero-shot-image-classification", model={folder!r}, trust_remote_code=True)
print(json.dumps(classify(Image.open({image!r}), candidate_labels=["A Dog", "a cat"])))
"""


@pytest.fixture
def checkpoint(tiny_fgclip2, fgclip2_processor, tmp_path) -> Path:
    folder = tmp_path / "checkpoint"
    with torch.no_grad():
        tiny_fgclip2.logit_bias.fill_(-1)
    tiny_fgclip2.save_pretrained(folder)
    fgclip2_processor.save_pretrained(folder)
    add_integrations(folder)
    return folder


@pytest.fixture
def image() -> Image.Image:
    return Image.effect_mandelbrot((100, 60), (-2, -1, 1, 1), 30).convert("RGB")


@torch.no_grad()
def test_zero_shot_pipeline_gives_the_sigmoid_of_the_models_logits(checkpoint, tiny_fgclip2, fgclip2_processor, image):
    classify = pipeline("zero-shot-image-classification", model=str(checkpoint))
    labels = ["A Dog", "a cat", "a bird that sings in a tree"]
    texts = [f"This is a photo of {label}." for label in labels]
    scores = tiny_fgclip2(**fgclip2_processor(images=image, text=texts)).logits_per_image[0].sigmoid()
    found = {entry["label"]: entry["score"] for entry in classify(image, candidate_labels=labels)}
    assert found == pytest.approx(dict(zip(labels, scores.tolist(), strict=True)), rel=1e-4)
    (one,) = classify(image, candidate_labels=["a dog"], hypothesis_template="{}")
    alone = tiny_fgclip2(**fgclip2_processor(images=image, text="a dog")).logits_per_image.sigmoid().item()
    assert one["score"] == pytest.approx(alone, rel=1e-4)


@torch.no_grad()
def test_zero_shot_pipeline_by_remote_code_alone(checkpoint, tiny_fgclip2, fgclip2_processor, image, tmp_path):
    image.save(tmp_path / "image.png")
    script = REMOTE_PIPELINE.format(
        folder=str(checkpoint), image=str(tmp_path / "image.png"), repository=str(Path(__file__).parents[2])
    )
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    found = {entry["label"]: entry["score"] for entry in json.loads(run.stdout.splitlines()[-1])}
    texts = ["This is a photo of A Dog.", "This is a photo of a cat."]
    scores = tiny_fgclip2(**fgclip2_processor(images=image, text=texts)).logits_per_image[0].sigmoid().tolist()
    assert found == pytest.approx({"A Dog": scores[0], "a cat": scores[1]}, rel=1e-4)


def test_other_models_keep_their_zero_shot_pipeline(tiny_model, processor, image, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    answer = pipeline("zero-shot-image-classification", model=str(tmp_path))(image, candidate_labels=["a", "b"])
    assert sum(entry["score"] for entry in answer) == pytest.approx(1, rel=1e-4)


@torch.no_grad()
def test_image_feature_extraction_pipeline(checkpoint, tiny_fgclip2, fgclip2_processor, image):
    """The image processor alone, as the Auto class gives it, chooses the image's own budget."""
    assert isinstance(AutoImageProcessor.from_pretrained(checkpoint), FGCLIP2ImageProcessor)
    features = torch.tensor(pipeline("image-feature-extraction", model=str(checkpoint))(image))
    assert_close(features, tiny_fgclip2(**fgclip2_processor(images=image)).image_embeds)


@torch.no_grad()
def test_region_pipeline_reads_phrases_by_the_box_head(checkpoint, tiny_fgclip2, fgclip2_processor, image):
    tiny_fgclip2.boxtext_head.weight.copy_(torch.randn(48, 48))
    tiny_fgclip2.save_pretrained(checkpoint)
    add_integrations(checkpoint)
    regions = pipeline("fine-grained-region-classification", model=str(checkpoint), trust_remote_code=True)
    boxes, labels = [[10, 5, 60, 50], [0, 0, 40, 40]], ["a red star", "a dog", "a cat sleeps"]
    found = regions(image, boxes=boxes, candidate_labels=labels)
    output = tiny_fgclip2(**fgclip2_processor(images=image, text=labels, boxes=boxes, region_text=True))
    scores = (output.region_embeds[0] @ output.text_embeds.t() * output.scales[1]).softmax(-1)
    for row, wanted in zip(found, scores, strict=True):
        by_label = {entry["label"]: entry["score"] for entry in row}
        assert by_label == pytest.approx(dict(zip(labels, wanted.tolist(), strict=True)), rel=1e-3)


@torch.no_grad()
def test_sentence_transformers(checkpoint, tiny_fgclip2, fgclip2_processor, image):
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(checkpoint), trust_remote_code=True, device="cpu")
    texts = ["A dog", "a bird that sings in a tree"]
    expected = tiny_fgclip2(**fgclip2_processor(images=image, text=texts))
    assert_close(torch.from_numpy(model.encode(texts)), expected.text_embeds, rtol=1e-4, atol=1e-5)
    assert_close(torch.from_numpy(model.encode([image])), expected.image_embeds, rtol=1e-4, atol=1e-5)
    long = model.encode(texts, processing_kwargs={"text": {"long_text": True}})
    wanted = tiny_fgclip2(**fgclip2_processor(text=texts, long_text=True)).text_embeds
    assert_close(torch.from_numpy(long), wanted, rtol=1e-4, atol=1e-5)


def test_a_folder_carries_its_own_familys_code(checkpoint, tiny_model):
    first, second = ({path.name for path in code_files(family)} for family in (FGCLIP, FGCLIP2))
    assert "modeling_fgclip2.py" in second - first
    assert "modeling_fgclip.py" in first - second
    assert second <= set(repository_files(checkpoint))
    assert not (first - second) & {path.name for path in checkpoint.iterdir()}
    assert (family_of(tiny_model), family_of(checkpoint)) == (FGCLIP, FGCLIP2)


@torch.no_grad()
@pytest.mark.parametrize("side", [None, 96])
def test_vision_tower_is_a_plain_siglip(checkpoint, tiny_fgclip2, fgclip2_processor, image, side, tmp_path):
    """On square images it gives what FG-CLIP 2 gives."""
    options = ["--image-size", str(side)] if side else []
    convert([str(checkpoint), "--to", "vision-tower", "--output", str(tmp_path / "tower"), *options])
    tower = AutoModel.from_pretrained(tmp_path / "tower")
    assert isinstance(tower, SiglipVisionModel)
    images = AutoImageProcessor.from_pretrained(tmp_path / "tower", backend="pil")
    side = side or 64
    square = image.resize((side, side), Image.Resampling.BILINEAR)
    pixels = images(images=image, return_tensors="pt")["pixel_values"]
    inputs = fgclip2_processor(images=square, max_num_patches=(side // 16) ** 2)
    assert inputs["spatial_shapes"].tolist() == [[side // 16] * 2]
    found = tower(pixels)
    assert_close(found.pooler_output, tiny_fgclip2.get_image_features(**inputs), rtol=1e-4, atol=1e-4)
    states = tiny_fgclip2.vision_model.encode(**inputs)
    assert_close(found.last_hidden_state, states, rtol=1e-4, atol=1e-4)


def test_converts_siglip2(fgclip2_processor, tmp_path, capsys):
    config = {**TINY_FGCLIP2, "text_config": {**TINY_FGCLIP2["text_config"], "vocab_size": 500}}
    siglip2 = Siglip2Model(Siglip2Config(**config))
    siglip2.save_pretrained(tmp_path / "siglip2")
    fgclip2_processor.tokenizer.save_pretrained(tmp_path / "siglip2")
    FGCLIP2ImageProcessor().save_pretrained(tmp_path / "siglip2")
    convert([str(tmp_path / "siglip2"), "--output", str(tmp_path / "made")])
    assert "transformers SigLIP 2 NaFlex" in capsys.readouterr().out
    model = FGCLIP2Model.from_pretrained(tmp_path / "made")
    assert torch.equal(model.longtext_head.weight, siglip2.text_model.head.weight)
    assert isinstance(FGCLIP2Processor.from_pretrained(tmp_path / "made"), FGCLIP2Processor)


def test_published_format_both_ways(fgclip2_processor, tmp_path, capsys):
    source = tmp_path / "published"
    shutil.copytree(FIXTURES / "tiny_fgclip2", source)
    fgclip2_processor.save_pretrained(source)
    convert([str(source), "--output", str(tmp_path / "ours")])
    assert ": FG-CLIP 2" in capsys.readouterr().out
    convert([str(tmp_path / "ours"), "--to", "published", "--output", str(tmp_path / "back")])
    stored, back = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "back"))
    assert back.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(back[name], tensor.float()), name
    written, expected = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "back", source))
    expected.pop("transformers_version")
    assert written == expected
    convert([str(source), "--code-only", "--output", str(tmp_path / "overlay")])
    overlay = json.loads((tmp_path / "overlay" / "config.json").read_text())
    assert overlay["auto_map"]["AutoModelForCausalLM"] == "modeling_fgclip2.FGCLIP2Model"
    assert (tmp_path / "overlay" / "modeling_fgclip2.py").is_file()
    assert not (tmp_path / "overlay" / "tokenizer.json").exists()


def test_model_card(checkpoint):
    from training.hub.model_card import render_card

    card = str(render_card(checkpoint, "user/my-fgclip2"))
    assert "FG-CLIP 2" in card
    assert "up to 36 patches of 16 x 16 pixels" in card
    assert "up to 196 tokens" in card
    assert "region_text=True" in card
