"""Puts an image encoder, a random projector and a language model together as transformers' LLaVA.

fgclip llava build --tower qihoo360/fg-clip-large --language_model lmsys/vicuna-7b-v1.5 --output llava

The folder loads with AutoModelForImageTextToText and AutoProcessor; no code of ours is needed there.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dataset_scripts.formats.llava import IMAGE_FITS
from dataset_scripts.locking import writing
from fgclip.command_line import Parser, run_command


def main(given: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", required=True, help="FG-CLIP, FG-CLIP 2, CLIP or SigLIP: a folder or a Hub id")
    parser.add_argument("--language_model", required=True, help="a causal language model: a folder or a Hub id")
    parser.add_argument("--tokenizer", help="by default the language model's")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--image_fit",
        default="pad",
        choices=IMAGE_FITS,
        help="how an image becomes a square: pad (LLaVA's finetuning, default), squash (FG-CLIP's), crop (LLaVA's "
        "pretraining)",
    )
    parser.add_argument("--feature_layer", type=int, default=-2, help="of the encoder's hidden states (LLaVA: -2)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of all weights; by default the language model's own",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the projector's weights")
    arguments = vars(parser.parse_args(given))
    from training.llava.build import build_llava

    output = arguments.pop("output")
    with writing(output):
        model, processor = build_llava(**arguments)
        model.save_pretrained(output)
        processor.save_pretrained(output)
    print(f"Wrote a LLaVA with {model.config.image_seq_length} tokens an image and an untrained projector to {output}")


if __name__ == "__main__":
    run_command(main)
