"""``python -m dataset_scripts.sample --output DIR``: writes the generated sample."""

from __future__ import annotations

import argparse
import os
import time

from dataset_scripts.sample.llava import write_llava
from dataset_scripts.sample.write import SampleSettings, generate_sample
from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> None:
    defaults = SampleSettings()
    parser = Parser(
        description="Write a generated data set in FineHARD's layout, with FG-OVD files over an unseen test split.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", required=True, help="folder to write; must be empty or absent")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="everything random follows from it")
    parser.add_argument("--train", type=int, default=defaults.train, help="number of training images")
    parser.add_argument("--test", type=int, default=defaults.test, help="number of test images")
    parser.add_argument("--image-size", type=int, default=defaults.image_size, help="pixels a side")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes")
    parser.add_argument(
        "--llava",
        action="store_true",
        help="write LLaVA's training data, GQA, POPE, RefCOCO and MMBench from it as well",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a sample made with other settings")
    options = vars(parser.parse_args(arguments))
    llava = options.pop("llava")
    start = time.perf_counter()
    output = generate_sample(**options)
    if llava:
        write_llava(output)
    print(
        f"{options['train']} training and {options['test']} test images in {output} ({time.perf_counter() - start:.1f} s)"
    )


if __name__ == "__main__":
    run_command(main)
