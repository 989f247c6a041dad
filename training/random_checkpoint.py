"""A small FG-CLIP with random weights and a tokenizer of its own."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed

from .family import TRAINING_FAMILIES


def create_checkpoint(settings: dict[str, Any], texts: Iterable[str], output: str | Path, seed: int = 0) -> None:
    """Writes model, processor and tokenizer to a folder that both stages can start from.

    Args:
        settings: `vocab_size` and the fields of [`FGCLIPConfig`] (`text_config`, `vision_config`, `projection_dim`, …);
            with `model_type: fgclip2` those of [`FGCLIP2Config`], and `patch_budgets`.
        texts: captions and expressions the tokenizer is trained on.
    """
    settings = dict(settings)
    model_type = settings.pop("model_type", "fgclip")
    if model_type not in TRAINING_FAMILIES:
        raise ValueError(f"Received model_type {model_type!r}; there are {', '.join(TRAINING_FAMILIES)}.")
    family = TRAINING_FAMILIES[model_type]
    config, processor = family.from_scratch(settings, texts)
    set_seed(seed)
    family.base.model(config).save_pretrained(output)
    processor.save_pretrained(output)


def texts_of(records: Dataset) -> Iterator[str]:
    """Every caption, expression and negative of the records."""
    for record in records.remove_columns("image"):
        regions = record["regions"]
        texts = [record["caption"], *record["short_captions"]]
        texts += [region[name] for region in regions for name in ("short_expr", "long_expr")]
        texts += [text for region in regions for text in region["negatives"]]
        yield from filter(None, texts)
