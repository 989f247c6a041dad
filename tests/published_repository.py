"""Folders as the published repositories are: a golden checkpoint with tokenizer files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil


def write_published_repository(folder: Path, golden_checkpoint: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Weights, configuration and preprocessing of the golden checkpoint, and a vocabulary that ends at CLIP's 49407.

    CLIP's own vocabulary is too large to lie here; the words of a small tokenizer stand in, padded to its size, because
    the published model pools at 49407.
    """
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.copyfile(golden_checkpoint / name, folder / name)
    vocabulary = tokenizer.get_vocab()
    words = sorted(vocabulary, key=vocabulary.get)[:-2]
    words += [f"filler{number}" for number in range(49406 - len(words))] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_published_fgclip2(folder: Path, golden_checkpoint: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """FG-CLIP 2's: weights, configuration, tokenizer, an image processor's settings, code for transformers 4.57."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(golden_checkpoint / name, folder / name)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessorPil().save_pretrained(folder)
    for name in ("configuration_fgclip2.py", "modeling_fgclip2.py"):
        (folder / name).write_text("raise RuntimeError('the published code ran')\n")
    return folder
