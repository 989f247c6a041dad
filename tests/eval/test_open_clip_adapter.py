"""open_clip's adapter against the library where it is installed, and against its documented interface in small."""

from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image
from torch import nn

from eval.adapters import OpenCLIPAdapter, load_adapter
from tests.eval.adapter_checks import require_fingerprint

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
    with pytest.raises(ValueError, match=r"\[open-clip\]"):
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
