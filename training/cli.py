"""One command line for all trainers: dataclasses, a YAML recipe, and options that override it."""

import difflib
import sys
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dataset_scripts.formats.files import named_file, read_yaml
from fgclip.command_line import Parser
from fgclip.dataclass_parser import DataclassParser

from . import RECIPES
from .arguments import FGCLIPTrainingArguments
from .help import USAGE, add_common
from .options import DataArguments, ModelArguments
from .trackers import check_trackers

Arguments = tuple[ModelArguments, DataArguments, FGCLIPTrainingArguments]


def parse_arguments(stage: type[FGCLIPTrainingArguments], arguments: Sequence[str] | None = None) -> Arguments:
    """The arguments of a stage; see [`parse_dataclasses`]."""
    return parse_dataclasses((ModelArguments, DataArguments, stage), arguments, stage.__doc__)


def parse_dataclasses(
    types: Sequence[type], arguments: Sequence[str] | None = None, description: str | None = None
) -> tuple[Any, ...]:
    """Reads `[--config RECIPE.yaml] [--option value …]`; an option on the command line wins over the recipe.

    Args:
        types: dataclasses whose fields are the options.
        arguments: by default those of the process.
        description: what `--help-all` begins with.

    Raises:
        ValueError: for an option or a recipe's key that does not exist, or a tracker that is not installed.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = DataclassParser(types, usage=USAGE, description=description)
    add_common(parser)
    if "--help-all" in map(parser.spelled, arguments):
        parser.parse_args(["--help"])
    actions = {action.dest: action for action in parser._actions}
    options = {option for action in parser._actions for option in action.option_strings}
    for argument in arguments:
        if argument.startswith("--"):
            _require_known(parser.spelled(argument).split("=")[0], options, "on the command line")
    recipe = _recipe_of(arguments)
    for key, value in (read_yaml(recipe) if recipe else {}).items():
        key = str(key).replace("-", "_")
        _require_known(key, actions, f"in {recipe}")
        actions[key].required = False
        parser.set_defaults(**{key: value})
    with warnings.catch_warnings():
        # transformers 5.17 knows gradient_checkpointing alone, 5.23 calls it activation_checkpointing.
        warnings.filterwarnings("ignore", message="`gradient_checkpointing", category=FutureWarning)
        *parsed, _ = parser.parse_args_into_dataclasses(arguments, look_for_args_file=False)
    for one in parsed:
        check_trackers(getattr(one, "report_to", []))
    return tuple(parsed)


def _recipe_of(arguments: list[str]) -> Path | None:
    parser = Parser(add_help=False)
    parser.add_argument("--config")
    recipe = parser.parse_known_args(arguments)[0].config
    return recipe and named_file(recipe, RECIPES, "--config")


def _require_known(name: str, known: Collection[str], source: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else " --help lists the options."
        raise ValueError(f"Received the unknown option {name!r} {source}.{hint}")
