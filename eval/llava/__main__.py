"""Scores a LLaVA on GQA, POPE, RefCOCO and MMBench: python -m eval.llava --model M --tasks gqa pope --data DIR --output DIR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.commands import described_tasks, in_own_process
from eval.llava.arguments import LlavaEvalArguments
from fgclip.command_line import Parser, run_command
from fgclip.fields import add_options

if TYPE_CHECKING:
    from eval.results import Result


def main(arguments: list[str] | None = None) -> dict[str, Result]:
    """Parse, and list the tasks or evaluate.

    Returns:
        task → result.
    Raises:
        ValueError: whatever is wrong with model, tasks, options, files or answers.
    """
    parser = Parser(usage="%(prog)s --model MODEL --tasks TASK [OPTIONS]", description=__doc__)
    add_options(parser, LlavaEvalArguments, "evaluation")
    args = LlavaEvalArguments(**vars(parser.parse_args(arguments)))
    if args.list_tasks:
        from eval.llava.benchmarks import BENCHMARKS

        print(described_tasks(BENCHMARKS))
        return {}
    from eval.llava.evaluation import evaluate

    return evaluate(args)


def command(arguments: list[str] | None = None) -> None:
    in_own_process(main, arguments)


if __name__ == "__main__":
    run_command(command)
