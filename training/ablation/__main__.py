"""Tables 6 and 8 of the paper, over several seeds: what each loss adds, and what other methods reach from the same start.

    python -m training.ablation --output outputs/ablation
    python -m training.ablation --table 8 --output outputs/peers
    python -m training.ablation --output outputs/ablation_photos --train_data DIR/train --test_data DIR/dev

Without --train_data it generates the sample. Every model is trained from random weights and evaluated on unseen data; a
run that was stopped goes on where it was, and --seeds may grow; with other data, recipes or steps it is refused. The table
gives mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from dataset_scripts.locking import writing
from eval.names import name_of
from fgclip.command_line import Parser, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=(6, 8), default=6, help="of the paper (default: 6)")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints, results and the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument(
        "--train_data", type=Path, help="folder in FineHARD's layout to train on; default: the generated sample"
    )
    parser.add_argument("--test_data", type=Path, help="folder in FineHARD's layout to evaluate on")
    parser.add_argument("--test_limit", type=int, help="evaluate on the first so many records of --test_data")
    parser.add_argument("--images", type=int, default=8000, help="generated scenes to train on (default: 8000)")
    parser.add_argument(
        "--model_recipe", type=Path, help="YAML of the model; default: tiny, or the small one for photographs"
    )
    parser.add_argument("--start", help="checkpoint that stage 2 starts from, such as a CLIP; default: train stage 1")
    parser.add_argument("--stage1_recipe", type=Path, help="YAML of stage 1")
    parser.add_argument("--stage2_recipe", type=Path, help="YAML of stage 2; the loss weights are set by each variant")
    parser.add_argument("--stage1_steps", type=int, help="instead of the recipe's")
    parser.add_argument("--stage2_steps", type=int, help="instead of the recipe's")
    parser.add_argument("--dry_run", action="store_true", help="show what would be trained, and stop")
    parsed = parser.parse_args(arguments)
    from transformers.utils import logging as transformers_logging

    logging.basicConfig(level=logging.WARNING)
    transformers_logging.set_verbosity_error()
    _ablate(parsed)


def _ablate(parsed: argparse.Namespace) -> None:
    from .runs import run
    from .setup import begin, setup_from

    setup = setup_from(parsed)
    begin(setup, dry=True)  # a mistake leaves no folder behind
    if parsed.dry_run:
        for seed in parsed.seeds:
            for variant in setup.variants:
                losses = " ".join(variant.losses)
                print(
                    f"seed {seed}: {variant.name} from {setup.start or variant.start}, {losses}, on {setup.train_data}"
                )
        return
    about = f"Trained on {name_of(setup.train_data)}, from {name_of(setup.start) or 'random weights'}"
    with writing(setup.output):
        begin(setup)
        run(setup, parsed.seeds, about)


if __name__ == "__main__":
    run_command(main)
