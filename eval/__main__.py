"""Zero-shot evaluation: python -m eval --model M --tasks fgovd,boxes --data DIR --output DIR."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from eval.arguments import EvalArguments
from fgclip.command_line import Parser, run_command
from fgclip.fields import add_options

if TYPE_CHECKING:
    from eval.results import Result
    from eval.tasks.base import Benchmark


def main(arguments: list[str] | None = None) -> dict[str, Result]:
    """Parse, and list the tasks or evaluate.

    Returns:
        task → result.
    Raises:
        ValueError: whatever is wrong with model, tasks, options or files.
    """
    parser = Parser(usage="%(prog)s --model MODEL --tasks TASK [OPTIONS]", description=__doc__)
    add_options(parser, EvalArguments, "evaluation")
    args = EvalArguments(**vars(parser.parse_args(arguments)))
    if args.list_tasks:
        from eval.tasks import TASKS

        print(described_tasks(TASKS))
        return {}
    from eval.evaluation import evaluate

    return evaluate(args)


def command(arguments: list[str] | None = None) -> None:
    """`main` as a process of its own, which it sets up and leaves clean."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # texts are tokenized in the loading workers
    logging.basicConfig(level=logging.WARNING)
    try:
        main(arguments)
    finally:
        if "accelerate" in sys.modules:  # else nothing ran
            sys.modules["accelerate"].PartialState().destroy_process_group()


def described_tasks(tasks: Mapping[str, type[Benchmark]]) -> str:
    """Every task with its documentation, the files it wants and its options."""
    parts = []
    for name, task in sorted(tasks.items()):
        fields = [
            f"{f.name}={','.join(f.default) if isinstance(f.default, tuple) else f.default}"
            for f in dataclasses.fields(task)
            if f.name != "data"
        ]
        about = (task.__doc__ or "").strip().splitlines()[0]
        parts.append(f"{name}: {about}\n{task.wants}\noptions: {', '.join(fields)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    run_command(command)
