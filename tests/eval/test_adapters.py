"""Adapters against the source models' own methods, and dense features against an explicit value path."""

from __future__ import annotations

import copy
import json
import sys
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
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
    ModelAdapter,
    OpenCLIPAdapter,
    Siglip2NaFlexAdapter,
    SiglipAdapter,
    adapter_for,
    load_adapter,
)
from eval.adapters.longclip import model_from_openai
from eval.embed import Embedder
from modeling_fgclip.region_pooling import pool_regions
from tests.eval.color_model import ColorModel

BOXES = torch.tensor([[[0.1, 0.0, 0.6, 0.9], [0.5, 0.5, 1.0, 1.0]], [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
TEXTS = ["a red cup", "the long story of a very small dog"]


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(0, 256, (h, w, 3), generator=generator, dtype=torch.uint8) for h, w in ((40, 56), (64, 48))]
    return [Image.fromarray(pixels.numpy()) for pixels in noise]


def value_path(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """A transformers encoder layer without attention weights, written out."""
    hidden = hidden + layer.self_attn.out_proj(layer.self_attn.v_proj(layer.layer_norm1(hidden)))
    return hidden + layer.mlp(layer.layer_norm2(hidden))


def require_fingerprint(adapter: ModelAdapter) -> None:
    """The same again and under another name; another for other weights, preprocessing or tokenization."""
    first, name = adapter.fingerprint(), adapter.name
    adapter.name = "another name"
    assert adapter.fingerprint() == first
    adapter.name = name
    for method in ("preprocess", "tokenize"):
        with pytest.MonkeyPatch.context() as patch:
            original = getattr(adapter, method)
            patch.setattr(adapter, method, lambda *args, original=original: {**original(*args), "more": 1})
            assert adapter.fingerprint() != first
    weight = next(adapter.model.parameters())
    with torch.no_grad():
        weight += 1
        assert adapter.fingerprint() != first
        weight -= 1


@torch.no_grad()
def test_fgclip(tiny_fgclip, tiny_processor, photos):
    adapter = adapter_for(tiny_fgclip, tiny_processor)
    assert isinstance(adapter, FGCLIPAdapter)
    inputs = adapter.preprocess(photos, squash=True)
    pixels = tiny_processor(images=photos)["pixel_values"]
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=0, atol=0)
    torch.testing.assert_close(adapter.encode_images(inputs), tiny_fgclip.get_image_features(pixels))
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


@torch.no_grad()
def test_clip_equals_fgclip_with_the_same_weights(tiny_clip, tiny_fgclip, tiny_processor, photos):
    """The same dense and region features as FG-CLIP's own methods, which golden numbers of the published code cover."""
    clip, fgclip = CLIPAdapter(tiny_clip, tiny_processor), FGCLIPAdapter(tiny_fgclip, tiny_processor)
    inputs = clip.preprocess(photos, squash=True)
    torch.testing.assert_close(inputs["pixel_values"], fgclip.preprocess(photos, squash=True)["pixel_values"])
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


def openai_state(clip: CLIPModel, second_table: bool) -> dict[str, torch.Tensor]:
    """A transformers CLIP's weights under OpenAI's names: the inverse of the conversion, from the published code."""
    theirs: dict[str, torch.Tensor] = {}
    state = clip.state_dict()
    plain = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "logit_scale": "logit_scale",
    }
    theirs |= {new: state[old] for new, old in plain.items()}
    theirs["visual.proj"], theirs["text_projection"] = clip.visual_projection.weight.T, clip.text_projection.weight.T
    for part in ("weight", "bias"):
        theirs[f"visual.ln_pre.{part}"] = state[f"vision_model.pre_layrnorm.{part}"]
        theirs[f"visual.ln_post.{part}"] = state[f"vision_model.post_layernorm.{part}"]
        theirs[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
        for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
            for i in range(2):
                layer, block = f"{tower}.encoder.layers.{i}", f"{prefix}.resblocks.{i}"
                thirds = [state[f"{layer}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
                theirs[f"{block}.attn.in_proj_{part}"] = torch.cat(thirds)
                names = {
                    "attn.out_proj": "self_attn.out_proj",
                    "ln_1": "layer_norm1",
                    "ln_2": "layer_norm2",
                    "mlp.c_fc": "mlp.fc1",
                    "mlp.c_proj": "mlp.fc2",
                }
                theirs |= {f"{block}.{new}.{part}": state[f"{layer}.{old}.{part}"] for new, old in names.items()}
    positions = state["text_model.embeddings.position_embedding.weight"]
    theirs["positional_embedding"] = positions
    if second_table:  # each table holds garbage where the other one is read
        first, second = positions.clone(), positions.clone()
        first[20:], second[:20] = 99, 99
        theirs["positional_embedding"], theirs["positional_embedding_res"] = first, second
    return {name: value.detach().clone().contiguous() for name, value in theirs.items()}


@pytest.fixture(scope="module")
def long_clip(tiny_clip) -> CLIPModel:
    """A CLIP with 248 text positions and heads of 64, as OpenAI's models have."""
    torch.manual_seed(1)
    config = tiny_clip.config.to_dict()
    for tower in ("text_config", "vision_config"):
        config[tower] |= {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    config["text_config"]["max_position_embeddings"] = 248
    return CLIPModel(type(tiny_clip.config).from_dict(config)).eval()


@torch.no_grad()
def test_longclip_checkpoint_in_its_original_layout(long_clip, tiny_processor, photos, tmp_path):
    save_file(openai_state(long_clip, second_table=True), tmp_path / "longclip.safetensors")
    CLIPProcessor(tiny_processor.image_processor, tiny_processor.tokenizer).save_pretrained(tmp_path / "processor")
    adapter = load_adapter(f"longclip:{tmp_path / 'longclip.safetensors'}:{tmp_path / 'processor'}")
    assert adapter.long_text
    assert adapter.settings()["architecture"] == "Long-CLIP"
    texts = [*TEXTS, "word " * 60]  # beyond 77 tokens
    mine, theirs = adapter.tokenize(texts, "long"), CLIPAdapter(long_clip, tiny_processor)
    assert mine["input_ids"].shape[1] == 242
    # The ids of the original vocabulary's end differ from the tiny tokenizer's, so the ends are set as the tests need.
    adapter.model.text_model.eos_token_id = adapter.model.config.text_config.eos_token_id = (
        long_clip.config.text_config.eos_token_id
    )
    torch.testing.assert_close(adapter.encode_texts(mine, "long"), theirs.encode_texts(mine, "long"))
    inputs = adapter.preprocess(photos, squash=True)
    torch.testing.assert_close(adapter.encode_dense(inputs), theirs.encode_dense(inputs))
    require_fingerprint(adapter)


def test_longclip_refuses_pickles_and_other_states(tmp_path):
    with pytest.raises(ValueError, match="is a pickle"):
        load_adapter(f"longclip:{tmp_path / 'longclip-B.pt'}")
    with pytest.raises(ValueError, match="not a state dict in OpenAI's CLIP layout"):
        model_from_openai({"weight": torch.zeros(1)})


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


# open_clip itself needs torchvision, which CPU installations of torch often lack. Its documented interface in small:


class _OpenClipVision(nn.Module):
    """open_clip's VisionTransformer: conv1, class and positional embeddings, ln_pre, resblocks, ln_post, proj."""

    def __init__(self, batch_first: bool):
        super().__init__()
        self.image_size, self.patch_size, self.attn_pool = (32, 32), (8, 8), None
        self.image_mean, self.image_std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)
        self.conv1 = nn.Conv2d(3, 32, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(32))
        self.positional_embedding = nn.Parameter(torch.randn(17, 32))
        self.ln_pre, self.ln_post = nn.LayerNorm(32), nn.LayerNorm(32)
        self.proj = nn.Parameter(torch.randn(32, 16))
        self.transformer = nn.Module()
        self.transformer.batch_first = batch_first
        self.transformer.resblocks = nn.ModuleList(_OpenClipBlock(batch_first) for _ in range(2))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        x = x if self.transformer.batch_first else x.transpose(0, 1)
        for block in self.transformer.resblocks:
            x = block(x, attn_mask=None)
        x = x if self.transformer.batch_first else x.transpose(0, 1)
        return self.ln_post(x)[:, 0] @ self.proj


class _OpenClipBlock(nn.Module):
    def __init__(self, batch_first: bool):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attn = nn.MultiheadAttention(32, 2, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, q_x, k_x=None, v_x=None, attn_mask=None):
        normed = self.ln_1(q_x)
        x = q_x + self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class _OpenClip(nn.Module):
    context_length = 77

    def __init__(self, batch_first: bool):
        super().__init__()
        self.visual = _OpenClipVision(batch_first)
        self.token_embedding = nn.Embedding(256, 16)

    def encode_image(self, image, normalize=False):
        return self.visual(image)

    def encode_text(self, text, normalize=False):
        return self.token_embedding(text).mean(1)


@torch.no_grad()
@pytest.mark.parametrize("batch_first", [True, False])
def test_open_clip_interface(batch_first, photos):
    torch.manual_seed(0)
    model = _OpenClip(batch_first).eval()
    adapter = OpenCLIPAdapter(
        model, lambda image: torch.zeros(3, 32, 32), lambda texts: torch.tensor([[len(t)] for t in texts])
    )
    inputs = adapter.preprocess(photos, squash=True)
    pixels = inputs["pixel_values"][0, 1, 5, 7] * 0.2 + 0.4  # undo mean and deviation of the second channel
    assert round(float(pixels) * 255) == photos[0].resize((32, 32), Image.Resampling.BICUBIC).getpixel((7, 5))[1]
    assert not adapter.preprocess(photos, squash=False)["pixel_values"].any()
    visual = model.visual
    x = visual.conv1(inputs["pixel_values"]).flatten(2).transpose(1, 2)
    x = visual.ln_pre(torch.cat([visual.class_embedding.expand(2, 1, -1), x], 1) + visual.positional_embedding)
    first, last = visual.transformer.resblocks
    x = first(x if batch_first else x.transpose(0, 1))
    x = (x if batch_first else x.transpose(0, 1))[:, 1:]
    value, bias = last.attn.in_proj_weight[64:], last.attn.in_proj_bias[64:]
    x = x + last.attn.out_proj(last.ln_1(x) @ value.T + bias)
    expected = visual.ln_post(x + last.mlp(last.ln_2(x))) @ visual.proj
    torch.testing.assert_close(adapter.encode_dense(inputs).flatten(1, 2), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapter.encode_images(inputs), model.encode_image(inputs["pixel_values"]))
    require_fingerprint(adapter)


def test_without_open_clip_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ValueError, match=r"\[open_clip\]"):
        load_adapter("open_clip:EVA02-B-16:merged2b_s8b_b131k")


@torch.no_grad()
@pytest.mark.parametrize("name", ["ViT-B-32", "EVA02-B-16", "ViT-B-16-SigLIP"])
def test_real_open_clip_where_it_is_installed(name, photos):
    """Dense features against a diagonal attention mask through the library's own blocks."""
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(name)
    adapter = OpenCLIPAdapter(model.eval(), transform, open_clip.tokenizer.SimpleTokenizer(), name)
    inputs = adapter.preprocess(photos, squash=True)
    torch.testing.assert_close(adapter.encode_images(inputs), model.encode_image(inputs["pixel_values"]))
    dense = adapter.encode_dense(inputs)
    visual = model.visual
    blocks = visual.trunk.blocks if hasattr(visual, "trunk") else visual.transformer.resblocks
    prefix = visual.trunk.num_prefix_tokens if hasattr(visual, "trunk") else 1
    kept = {}
    handle = blocks[-1].register_forward_pre_hook(
        lambda _, args, kwargs: kept.update(x=args[0], kwargs=kwargs), with_kwargs=True
    )
    model.encode_image(inputs["pixel_values"])
    handle.remove()
    length = kept["x"].shape[1]
    mask = torch.full((length, length), -torch.inf).fill_diagonal_(0)
    if name == "EVA02-B-16":
        mask = mask[None, None]
    tokens = blocks[-1](kept["x"], **{**kept["kwargs"], "attn_mask": mask})[:, prefix:]
    if hasattr(visual, "trunk"):
        tokens = visual.trunk.norm(tokens)
        if name == "ViT-B-16-SigLIP":
            tokens = torch.stack([visual.trunk.attn_pool(tokens[:, i : i + 1]) for i in range(tokens.shape[1])], 1)
        expected = visual.head(visual.trunk.head(visual.trunk.fc_norm(tokens)))
    else:
        expected = visual.ln_post(tokens) @ visual.proj
    torch.testing.assert_close(dense.flatten(1, 2), expected, rtol=1e-3, atol=1e-4)
    assert dense.shape[-1] == adapter.encode_images(inputs).shape[-1]
