"""A model with known answers, tiny random models of every family, and a tokenizer that needs no download."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from tests.eval.color_model import RGB, ColorModel


@pytest.fixture
def color_model() -> ColorModel:
    return ColorModel()


@pytest.fixture
def paint() -> Callable:
    """paint(path, background, *(color, box in pixels), size) writes an image of rectangles."""

    def make(path: Path, background: str, *rectangles: tuple[str, tuple], size: tuple[int, int] = (64, 64)) -> Path:
        image = Image.new("RGB", size, RGB[background])
        draw = ImageDraw.Draw(image)
        for color, (x1, y1, x2, y2) in rectangles:
            draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=RGB[color])
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **({"quality": 100, "subsampling": 0} if path.suffix in (".jpg", ".jpeg", ".JPEG") else {}))
        return path

    return make


def character_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer class with a vocabulary of single characters."""
    symbols = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["<|startoftext|>", "<|endoftext|>", *symbols, *(f"{symbol}</w>" for symbol in symbols)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def tiny_clip_config(size: int = 32, positions: int = 77) -> CLIPConfig:
    tokenizer = character_tokenizer()
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }
    return CLIPConfig(
        text_config={**widths, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": positions},
        vision_config={**widths, "image_size": size, "patch_size": 8},
        projection_dim=16,
    )


@pytest.fixture(scope="session")
def tiny_clip() -> CLIPModel:
    torch.manual_seed(0)
    return CLIPModel(tiny_clip_config()).eval()


@pytest.fixture(scope="session")
def tiny_processor() -> FGCLIPProcessor:
    size = {"height": 32, "width": 32}
    return FGCLIPProcessor(CLIPImageProcessorPil(size=size, do_center_crop=False), character_tokenizer())


@pytest.fixture(scope="session")
def tiny_fgclip(tiny_clip: CLIPModel) -> FGCLIPModel:
    return FGCLIPModel.from_clip(tiny_clip).eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_fgclip: FGCLIPModel, tiny_processor: FGCLIPProcessor, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tiny_fgclip")
    tiny_fgclip.save_pretrained(path)
    tiny_processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(0, 256, (h, w, 3), generator=generator, dtype=torch.uint8) for h, w in ((40, 56), (64, 48))]
    return [Image.fromarray(pixels.numpy()) for pixels in noise]
