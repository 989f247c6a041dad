"""A small random language model with a tokenizer of its own, to build a LLaVA where no Vicuna is at hand.

fgclip llava new-language-model --config tiny_language_model --data llava/pretrain.json llava/instruct.json --output lm
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dataset_scripts.formats.files import named_file, read_yaml
from dataset_scripts.locking import writing
from fgclip.command_line import Parser, run_command
from training import RECIPES


def main(given: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", required=True, help="fields of LlamaConfig: a YAML file, or a name such as tiny_language_model"
    )
    parser.add_argument("--data", nargs="+", required=True, help="files of LLaVA's JSON, for the tokenizer")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(given)
    from training.llava.scratch import conversation_texts, create_language_model

    settings = read_yaml(named_file(arguments.config, RECIPES, "--config"))
    with writing(arguments.output):
        create_language_model(settings, conversation_texts(arguments.data), arguments.output, arguments.seed)
    print(f"Wrote a random language model to {arguments.output}")


if __name__ == "__main__":
    run_command(main)
