"""Stage 1 of LLaVA-1.5: the projector learns from captions, everything else is frozen.

accelerate launch --config_file training/configs/deepspeed_zero2.yaml training/llava/pretrain.py \\
    --config training/recipes/llava_pretrain_7b.yaml --model_name_or_path llava --train_data blip_laion_cc_sbu_558k.json --image_folder images

A run that was stopped continues when the same command is given again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # started as a file: the checkout is not on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from fgclip.command_line import run_command
from training.help import show_help
from training.llava.options import LlavaDataArguments, LlavaModelArguments, PretrainOptions


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: parse and train."""
    options = {"model": LlavaModelArguments, "data": LlavaDataArguments, "training": PretrainOptions}
    show_help(options, arguments, PretrainOptions.__doc__)
    from training.llava.arguments import PretrainArguments
    from training.llava.stages import main

    main(PretrainArguments, arguments)


if __name__ == "__main__":
    run_command(main)
