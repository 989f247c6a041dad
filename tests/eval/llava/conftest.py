"""A tiny random LLaVA, and the sample's benchmarks in their official layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from dataset_scripts.sample import generate_sample
from dataset_scripts.sample.llava import write_llava
from tests.training.llava.towers import write_language_model, write_tower
from training.llava.build import build_llava


@pytest.fixture(scope="session")
def llava_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a tower and a language model."""
    folder = tmp_path_factory.mktemp("parts")
    return write_tower("fgclip", folder / "tower"), write_language_model(folder / "lm")


@pytest.fixture(scope="session")
def llava(llava_parts) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Random weights, large enough that images and questions change the answers."""
    model, processor = build_llava(*llava_parts)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "vision_tower" not in name:
                weight.mul_(6)
    return model, processor


@pytest.fixture(scope="session")
def llava_folder(llava, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    for part in llava:
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for --data."""
    sample = generate_sample(tmp_path_factory.mktemp("sample") / "set", train=1, test=24, image_size=64)
    return write_llava(sample) / "eval"
