"""Stage 2 of LLaVA-1.5: projector and language model learn from conversations; the encoder stays as it is.

accelerate launch --config_file training/configs/deepspeed_zero3.yaml training/llava/finetune.py \\
    --config training/recipes/llava_finetune_7b.yaml --model_name_or_path outputs/llava_pretrain --train_data llava_v1_5_mix665k.json --image_folder data

A run that was stopped continues when the same command is given again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # started as a file: the checkout is not on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from fgclip.command_line import run_command
from training.help import show_help
from training.llava.options import FinetuneOptions, LlavaDataArguments, LlavaModelArguments


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: parse and train."""
    options = {"model": LlavaModelArguments, "data": LlavaDataArguments, "training": FinetuneOptions}
    show_help(options, arguments, FinetuneOptions.__doc__)
    from training.llava.arguments import FinetuneArguments
    from training.llava.stages import main

    main(FinetuneArguments, arguments)


if __name__ == "__main__":
    run_command(main)
