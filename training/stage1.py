"""Stage 1 of FG-CLIP: `accelerate launch training/stage1.py --config training/recipes/stage1_vit_b16.yaml`."""

from collections.abc import Sequence

from fgclip.command_line import run_command
from training.help import show_help
from training.options import DataArguments, ModelArguments, Stage1Options


def main(arguments: Sequence[str] | None = None) -> None:
    show_help(
        {"model": ModelArguments, "data": DataArguments, "training": Stage1Options}, arguments, Stage1Options.__doc__
    )
    from training.arguments import Stage1Arguments
    from training.stages import main as run_stage

    run_stage(Stage1Arguments, arguments)


if __name__ == "__main__":
    run_command(main)
