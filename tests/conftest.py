"""Small models and golden numbers that all folders' tests share."""

import os

# The suite needs no network; anything that tries fails at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# On a machine with a GPU, too, these tests are of the CPU (tests/gpu/conftest.py).
if os.environ.get("FGCLIP_TEST_DEVICE", "cpu") == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPImageProcessorPil

from modeling_fgclip import (
    FGCLIP2Config,
    FGCLIP2ImageProcessor,
    FGCLIP2Model,
    FGCLIP2Processor,
    FGCLIPConfig,
    FGCLIPModel,
    FGCLIPProcessor,
)
from training.data.tokenizer import train_siglip_tokenizer, train_tokenizer

FIXTURES = Path(__file__).parent / "fixtures"

CAPTIONS = [
    "a light red wooden star with a dark blue border at the top left of the scene",
    "a small green metal circle next to a large yellow striped square",
    "the photo shows two objects on a plain grey background with soft light",
    "a dog runs over a field, a cat sleeps on a sofa and a bird sings in a tree",
]

TINY = {
    "projection_dim": 24,
    "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
    },
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """Numbers of the published model; tests/fixtures/README.md explains them."""
    return load_file(FIXTURES / "tiny_b16" / "golden.safetensors")


@pytest.fixture(scope="session")
def golden_checkpoint() -> Path:
    return FIXTURES / "tiny_b16"


@pytest.fixture
def golden_model(golden_checkpoint: Path) -> FGCLIPModel:
    """The published format, loaded as it stands."""
    return FGCLIPModel.from_pretrained(golden_checkpoint, dtype=torch.float32).eval()


def make_processor() -> FGCLIPProcessor:
    tokenizer = train_tokenizer(CAPTIONS * 2, vocab_size=800)
    return FGCLIPProcessor(CLIPImageProcessorPil(size={"height": 64, "width": 64}), tokenizer)


def make_tiny_model(processor: FGCLIPProcessor) -> FGCLIPModel:
    torch.manual_seed(0)
    tokenizer = processor.tokenizer
    token_ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return FGCLIPModel(FGCLIPConfig(**{**TINY, "text_config": {**TINY["text_config"], **token_ids}})).eval()


@pytest.fixture(scope="session")
def processor() -> FGCLIPProcessor:
    """For images of 64 pixels, with a tokenizer of a few hundred tokens."""
    return make_processor()


@pytest.fixture
def tiny_model(processor: FGCLIPProcessor) -> FGCLIPModel:
    """A random model for the processor above, in evaluation mode."""
    return make_tiny_model(processor)


TINY_FGCLIP2 = {
    "text_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_patches": 16,
        "patch_size": 16,
    },
}


@pytest.fixture(scope="session")
def golden2() -> dict[str, torch.Tensor]:
    """Numbers of the published FG-CLIP 2; tests/fixtures/README.md explains them."""
    return load_file(FIXTURES / "tiny_fgclip2" / "golden.safetensors")


@pytest.fixture
def golden_model2() -> FGCLIP2Model:
    return FGCLIP2Model.from_pretrained(FIXTURES / "tiny_fgclip2", dtype=torch.float32).eval()


def make_fgclip2_processor() -> FGCLIP2Processor:
    tokenizer = train_siglip_tokenizer([*CAPTIONS * 2, "一只狗在草地上跑", "一只狗在沙发上睡觉"], vocab_size=500)
    return FGCLIP2Processor(FGCLIP2ImageProcessor(patch_budgets=[16, 24, 36]), tokenizer)


def make_tiny_fgclip2(processor: FGCLIP2Processor) -> FGCLIP2Model:
    torch.manual_seed(0)
    text_config = {**TINY_FGCLIP2["text_config"], "vocab_size": len(processor.tokenizer)}
    return FGCLIP2Model(FGCLIP2Config(**{**TINY_FGCLIP2, "text_config": text_config})).eval()


@pytest.fixture(scope="session")
def fgclip2_processor() -> FGCLIP2Processor:
    """With budgets of 16, 24 and 36 patches and a tokenizer of a few hundred tokens."""
    return make_fgclip2_processor()


@pytest.fixture
def tiny_fgclip2(fgclip2_processor: FGCLIP2Processor) -> FGCLIP2Model:
    """A random model for the processor above, in evaluation mode."""
    return make_tiny_fgclip2(fgclip2_processor)
