"""`--help` of the trainers at once: transformers' TrainingArguments, which need torch, wait for `--help-all`."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from fgclip.command_line import Parser
from fgclip.fields import add_options

USAGE = "%(prog)s [--config RECIPE] [OPTIONS]"
LAUNCH = (
    "Several processes or machines: `accelerate launch -m fgclip train …` takes the same options, behind its own such as "
    "--num_processes 8 or --config_file training/configs/ddp.yaml."
)


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every trainer reads beside its dataclasses."""
    parser.add_argument(
        "--config", help="Recipe: a YAML file of these options, or the name of one in training/recipes."
    )
    parser.add_argument("--help-all", action="store_true", help="Show the options of transformers' Trainer too.")


def show_help(options: Mapping[str, type], arguments: Sequence[str] | None, description: str | None) -> None:
    """Prints the options and ends the process if the arguments ask for `--help`.

    Args:
        options: dataclasses of ours, without transformers', by the heading that their fields stand under.
        arguments: by default those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(given):
        parser = Parser(usage=USAGE, description=description, epilog=LAUNCH)
        add_common(parser)
        for title, cls in options.items():
            add_options(parser, cls, title)
        parser.parse_args(["--help"])
