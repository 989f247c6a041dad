"""A small FG-CLIP with random weights and a tokenizer of its own, to train where no checkpoint is at hand.

python -m training.scratch --config training/recipes/tiny_model.yaml --train_data DIR/train --output DIR/random
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dataset_scripts.formats.files import named_file, read_yaml
from fgclip.command_line import Parser, run_command

from . import RECIPES


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
    from .data.sources import load_records
    from .random_checkpoint import create_checkpoint, texts_of

    texts = texts_of(load_records(arguments.train_data))
    create_checkpoint(
        read_yaml(named_file(arguments.config, RECIPES, "--config")), texts, arguments.output, arguments.seed
    )
    print(f"Wrote a random FG-CLIP to {arguments.output}")


if __name__ == "__main__":
    run_command(main)
