"""The whole of FG-CLIP in minutes, without a download: data, both stages, evaluation, figures.

    python -m training.quickstart --output outputs/quickstart
    python -m training.quickstart --output outputs/quickstart-fgclip2 --family fgclip2

Generates the sample, starts from random weights, trains stage 1 and stage 2 of the tiny recipes, evaluates before,
between and after on scenes and attribute combinations that training never saw, and prints one table.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(given: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"), help="folder for everything made")
    parser.add_argument("--family", choices=("fgclip", "fgclip2"), default="fgclip", help="FG-CLIP or FG-CLIP 2")
    parser.add_argument("--images", type=int, default=8000, help="scenes to train on (default: 8000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage1_steps", type=int, help="instead of the recipe's")
    parser.add_argument("--stage2_steps", type=int, help="instead of the recipe's")
    arguments = parser.parse_args(given)
    from transformers.utils import logging as transformers_logging

    from .quickstart_run import run

    logging.basicConfig(level=logging.WARNING)
    transformers_logging.set_verbosity_error()
    steps = arguments.stage1_steps, arguments.stage2_steps
    run(arguments.output, arguments.images, arguments.seed, steps, arguments.family)


if __name__ == "__main__":
    run_command(main)
