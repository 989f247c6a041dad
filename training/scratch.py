"""A small FG-CLIP with random weights and a tokenizer of its own, to train where no checkpoint is at hand.

python -m training.scratch --config training/recipes/tiny_model.yaml --train_data DIR/train --output DIR/random
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import CLIPImageProcessorPil, set_seed

from dataset_scripts.formats.files import read_yaml
from modeling_fgclip import FGCLIPConfig, FGCLIPModel, FGCLIPProcessor

from .data.sources import load_records
from .data.tokenizer import train_tokenizer


def create_checkpoint(settings: dict[str, Any], texts: Iterable[str], output: str | Path, seed: int = 0) -> None:
    """Writes model, processor and tokenizer to a folder that both stages can start from.

    Args:
        settings: `vocab_size` and the fields of [`FGCLIPConfig`] (`text_config`, `vision_config`, `projection_dim`, …).
        texts: captions and expressions the tokenizer is trained on.
    """
    settings = dict(settings)
    tokenizer = train_tokenizer(texts, settings.pop("vocab_size"))
    token_ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings["text_config"] = {**settings.get("text_config", {}), **token_ids}
    config = FGCLIPConfig(**settings)
    set_seed(seed)
    FGCLIPModel(config).save_pretrained(output)
    size = config.vision_config.image_size
    processor = FGCLIPProcessor(
        CLIPImageProcessorPil(size={"height": size, "width": size}),
        tokenizer,
        short_text_length=config.text_config.max_position_embeddings,
        long_text_length=config.text_config.max_long_position_embeddings,
    )
    processor.save_pretrained(output)


def texts_of(records: Dataset) -> Iterator[str]:
    """Every caption, expression and negative of the records."""
    for record in records.remove_columns("image"):
        regions = record["regions"]
        texts = [record["caption"], *record["short_captions"]]
        texts += [region[name] for region in regions for name in ("short_expr", "long_expr")]
        texts += [text for region in regions for text in region["negatives"]]
        yield from filter(None, texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="YAML file: vocab_size and fields of FGCLIPConfig")
    parser.add_argument(
        "--train_data", nargs="+", required=True, help="folders in FineHARD's layout, for the tokenizer"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts = texts_of(load_records(arguments.train_data))
    create_checkpoint(read_yaml(arguments.config), texts, arguments.output, arguments.seed)
    print(f"Wrote a random FG-CLIP to {arguments.output}")


if __name__ == "__main__":
    main()
