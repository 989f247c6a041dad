"""Exports the encoders to ONNX and torch.export, with dynamic sizes, and checks that they agree with PyTorch.

    python -m modeling_fgclip.export user/my-fgclip --output exported
    python -m modeling_fgclip.export user/my-fgclip --output exported --precision fp32 fp16 int8
    python -m modeling_fgclip.export outputs/stage2 --output exported --format torch

Writes onnx/text_model.onnx, vision_model.onnx, dense_model.onnx and region_model.onnx under the names that
transformers.js reads (with `_fp16`, `_quantized` for the smaller ones), and the tokenizer's, preprocessing's and model's
JSON beside them; --format torch writes .pt2 files instead. Batch, text length, number of boxes, height and width are free
(height and width in multiples of the patch size). Images are prepared as by the processor; embeddings come out
L2-normalized.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="folder or Hub id")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--format", choices=("onnx", "torch", "both"), default="onnx")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "fp16", "int8"),
        default=["fp32"],
        help="of ONNX files (default: fp32 alone)",
    )
    parser.add_argument("--long_text", action="store_true", help="also write onnx/long_text_model.onnx")
    parser.add_argument("--revision", help="revision of the checkpoint on the Hub")
    args = parser.parse_args(arguments)
    from transformers.utils import logging

    from .exporting import FORMATS, export

    formats = FORMATS if args.format == "both" else (args.format,)
    source = {"revision": args.revision} if args.revision else {}
    logging.disable_progress_bar()
    print(f"{args.output}: {export(args.checkpoint, args.output, formats, args.precision, args.long_text, **source)}")


if __name__ == "__main__":
    run_command(main)
