"""Conversions, against encoders of other libraries' layouts and against the published model's numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPModel, CLIPVisionModel

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.conversion import load_any
from modeling_fgclip.convert import main
from modeling_fgclip.open_clip_layout import clip_config
from tests.published_repository import write_published_repository
from training.data.tokenizer import train_tokenizer

CAPTION = "a small green metal circle next to a large yellow striped square"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([CAPTION] * 2, vocab_size=600)


@pytest.fixture
def clip_folder(tmp_path: Path, tokenizer) -> Path:
    """A transformers CLIP of another shape than the fixtures'."""
    shape = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**shape, "hidden_size": 32, "vocab_size": len(tokenizer), **ids}
    vision = {**shape, "hidden_size": 48, "image_size": 32, "patch_size": 8, "num_attention_heads": 3}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    folder = tmp_path / "clip"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


@torch.no_grad()
def test_transformers_clip_keeps_its_features(clip_folder, tmp_path, capsys):
    main([str(clip_folder), "--output", str(tmp_path / "out")])
    report = capsys.readouterr().out
    clip = CLIPModel.from_pretrained(clip_folder).eval()
    model = FGCLIPModel.from_pretrained(tmp_path / "out").eval()
    processor = FGCLIPProcessor.from_pretrained(tmp_path / "out")
    assert list(processor.image_processor.image_mean) == [0.5, 0.4, 0.3]
    pixels, ids = torch.randn(2, 3, 32, 32), processor(text=[CAPTION, "a circle"])["input_ids"]
    assert_close(model.get_image_features(pixels), clip.get_image_features(pixels).pooler_output, rtol=1e-4, atol=1e-5)
    assert_close(model.get_text_features(ids), clip.get_text_features(ids).pooler_output, rtol=1e-4, atol=1e-5)
    assert f"mapped     {len(clip.state_dict())} tensors" in report
    assert "stretched  text_model.embeddings.position_embedding_ori.weight" in report
    assert "text_filip_projection.weight from text_projection.weight" in report
    assert_close(model.text_filip_projection.weight, clip.text_projection.weight)
    assert_close(model.logit_scale_hardneg, clip.logit_scale)


@torch.no_grad()
def test_published_format_both_ways(golden_checkpoint, golden, tmp_path, tokenizer, capsys):
    """Loaded, converted, and written back: the published model's numbers and files throughout."""
    source = write_published_repository(tmp_path / "published", golden_checkpoint, tokenizer)
    ours, back = tmp_path / "ours", tmp_path / "back"
    main([str(source), "--output", str(ours)])
    assert "stretched" not in capsys.readouterr().out
    model = FGCLIPModel.from_pretrained(ours).eval()
    assert_close(model.get_image_features(golden["pixel_values"]), golden["image_features"], rtol=1e-4, atol=1e-6)
    assert json.loads((ours / "config.json").read_text())["model_type"] == "fgclip"
    main([str(ours), "--to", "published", "--output", str(back)])
    written, original = (json.loads((folder / "config.json").read_text()) for folder in (back, source))
    for part in ("text_config", "vision_config"):
        shared = set(original[part]) - {"transformers_version"}
        assert {name: written[part][name] for name in shared} == {name: original[part][name] for name in shared}
    assert {name: written[name] for name in ("model_type", "auto_map", "architectures")} == {
        name: original[name] for name in ("model_type", "auto_map", "architectures")
    }
    preprocessing = "preprocessor_config.json"
    assert json.loads((back / preprocessing).read_text()) == json.loads((source / preprocessing).read_text())
    tensors, originals = load_file(back / "model.safetensors"), load_file(source / "model.safetensors")
    assert tensors.keys() == {name for name in originals if not name.endswith("position_ids")}
    for name, tensor in tensors.items():
        assert_close(tensor, originals[name].float())


def test_code_laid_over_published_weights(golden_checkpoint, golden, tmp_path, tokenizer):
    """The overlay changes no weight and makes the Auto classes work; what the repository had stays."""
    source = write_published_repository(tmp_path / "published", golden_checkpoint, tokenizer)
    overlay = tmp_path / "overlay"
    main([str(source), "--code-only", "--output", str(overlay)])
    names = {path.name for path in overlay.iterdir()}
    assert {"config.json", "processor_config.json", "modeling_fgclip.py", "pipeline_fgclip.py"} <= names
    assert not names & {"model.safetensors", "tokenizer.json", "vocab.json"}
    for path in overlay.iterdir():
        (source / path.name).unlink(missing_ok=True)
        shutil.copy(path, source / path.name)
    model = AutoModel.from_pretrained(source, trust_remote_code=True, dtype=torch.float32).eval()
    assert type(model).__module__.startswith("transformers_modules")
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=True)
    assert (processor.image_size, processor.long_text_length) == (64, 248)
    with torch.no_grad():
        features = model.get_text_features(golden["text_long"], walk_short_pos=False)
    assert_close(features, golden["text_features_long"], rtol=1e-4, atol=1e-6)


class OpenCLIPTower(nn.Module):
    """open_clip's transformer in plain PyTorch, from its documented layout: nn.MultiheadAttention, names of its own."""

    def __init__(self, width: int, layers: int, heads: int):
        super().__init__()
        self.resblocks = nn.ModuleList(OpenCLIPBlock(width, heads) for _ in range(layers))

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class OpenCLIPBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x, mask):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class OpenCLIPVision(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, image: int, patch: int, dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((image // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = OpenCLIPTower(width, layers, heads)
        self.proj = nn.Parameter(torch.randn(width, dim) / width**0.5)

    def forward(self, pixels):
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


class OpenCLIP(nn.Module):
    def __init__(self, vocab: int):
        super().__init__()
        self.visual = OpenCLIPVision(128, 2, 2, 32, 8, 24)
        self.token_embedding = nn.Embedding(vocab, 32)
        self.positional_embedding = nn.Parameter(torch.randn(77, 32))
        self.transformer = OpenCLIPTower(32, 2, 4)
        self.ln_final = nn.LayerNorm(32)
        self.text_projection = nn.Parameter(torch.randn(32, 24) / 32**0.5)
        self.logit_scale = nn.Parameter(torch.tensor(3.5))

    def encode_text(self, ids):
        length = ids.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, mask))
        return x[torch.arange(len(x)), ids.argmax(-1)] @ self.text_projection


OPEN_CLIP_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 0, "width": 32, "heads": 4, "layers": 2},
}


@pytest.fixture
def open_clip_folder(tmp_path, tokenizer) -> tuple[Path, OpenCLIP]:
    folder = tmp_path / "open_clip"
    folder.mkdir()
    model = OpenCLIP(len(tokenizer)).eval()
    config = {**OPEN_CLIP_CONFIG, "text_cfg": {**OPEN_CLIP_CONFIG["text_cfg"], "vocab_size": len(tokenizer)}}
    preprocessing = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    written = json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing})
    (folder / "open_clip_config.json").write_text(written)
    tokenizer.save_pretrained(folder)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder, model


@torch.no_grad()
def test_open_clip_keeps_its_features(open_clip_folder):
    folder, source = open_clip_folder
    model, processor, report = load_any(str(folder))
    pixels = torch.randn(2, 3, 32, 32)
    ids = processor(text=[CAPTION, "a circle"])["input_ids"]
    assert_close(model.get_image_features(pixels), source.visual(pixels), rtol=1e-4, atol=1e-5)
    assert_close(model.get_text_features(ids), source.encode_text(ids), rtol=1e-4, atol=1e-5)
    assert model.logit_scale.item() == pytest.approx(3.5)
    assert list(processor.image_processor.image_std) == [0.5, 0.5, 0.5]
    assert report.kind == "open_clip ViT"
    assert len(report.stretched) == 2


def test_open_clip_pickle_is_read_as_tensors_only(open_clip_folder):
    folder, source = open_clip_folder
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(source.state_dict(), folder / "open_clip_pytorch_model.bin")
    load_any(str(folder))
    torch.save(source, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(Exception, match="weights_only"):
        load_any(str(folder))


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("vision_cfg", "timm_model_name", "eva02_base_patch16_clip_224"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "layers", [3, 4, 6, 3]),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "no_causal_mask", True),
    ],
)
def test_open_clip_that_cannot_be_mapped_is_refused(part, setting, value):
    config = {**OPEN_CLIP_CONFIG, part: {**OPEN_CLIP_CONFIG[part], setting: value}}
    with pytest.raises(ValueError, match=setting):
        clip_config(config)


def test_incomplete_and_foreign_checkpoints_are_refused(clip_folder, open_clip_folder, tmp_path):
    state = load_file(clip_folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "visual_projection" not in k}, clip_folder / "model.safetensors")
    with pytest.raises(ValueError, match="lacks: visual_projection"):
        load_any(str(clip_folder))
    save_file({**state, "head.weight": torch.zeros(2)}, clip_folder / "model.safetensors")
    with pytest.raises(ValueError, match="has besides: head"):
        load_any(str(clip_folder))
    folder, model = open_clip_folder
    save_file({**model.state_dict(), "logit_bias": torch.zeros(1)}, folder / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="logit_bias"):
        load_any(str(folder))
    (tmp_path / "siglip").mkdir()
    (tmp_path / "siglip" / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(ValueError, match=r"safetensors|siglip"):
        load_any(str(tmp_path / "siglip"))
    with pytest.raises(ValueError, match="neither a folder nor"):
        load_any("no-such-folder")


@torch.no_grad()
def test_vision_tower_alone(tiny_model, processor, tmp_path):
    tiny_model.save_pretrained(tmp_path / "source")
    processor.save_pretrained(tmp_path / "source")
    main([str(tmp_path / "source"), "--to", "vision-tower", "--output", str(tmp_path / "tower")])
    assert not list((tmp_path / "tower").glob("*.py"))
    tower = AutoModel.from_pretrained(tmp_path / "tower").eval()
    assert isinstance(tower, CLIPVisionModel)
    pixels = torch.randn(2, 3, 64, 64)
    features = tiny_model.visual_projection(tower(pixels).pooler_output)
    assert_close(features, tiny_model.get_image_features(pixels), rtol=1e-4, atol=1e-5)


def test_output_must_be_empty(tmp_path, clip_folder):
    with pytest.raises(ValueError, match="not empty"):
        main([str(clip_folder), "--output", str(clip_folder)])
