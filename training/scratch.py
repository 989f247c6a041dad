"""A small FG-CLIP with random weights and a tokenizer of its own, to train where no checkpoint is at hand.

python -m training.scratch --config training/recipes/tiny_model.yaml --train_data DIR/train --output DIR/random
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed

from dataset_scripts.formats.files import named_file, read_yaml
from fgclip.command_line import Parser, run_command

from .cli import RECIPES
from .data.sources import load_records
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


def main(given: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config",
        required=True,
        help="vocab_size and fields of FGCLIPConfig: a YAML file, or a name such as tiny_model",
    )
    parser.add_argument(
        "--train_data", nargs="+", required=True, help="folders in FineHARD's layout, for the tokenizer"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(given)
    texts = texts_of(load_records(arguments.train_data))
    create_checkpoint(
        read_yaml(named_file(arguments.config, RECIPES, "--config")), texts, arguments.output, arguments.seed
    )
    print(f"Wrote a random FG-CLIP to {arguments.output}")


if __name__ == "__main__":
    run_command(main)
