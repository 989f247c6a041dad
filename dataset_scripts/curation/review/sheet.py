"""A sheet of sampled negatives for a person to mark: one HTML file with image, box, expression and negatives.

    python -m dataset_scripts.curation.review.sheet --input FOLDER --output sheet.html --negatives 3000

Marks are kept in the browser and saved as a JSON file, which ``python -m dataset_scripts.curation.review.agreement`` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", required=True, help="output folder of the pipeline, or a folder of record shards")
    parser.add_argument("--output", required=True, help="the HTML file to write")
    parser.add_argument(
        "--negatives", type=int, default=3000, help="about how many to mark; default: the paper's 3000"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.negatives < 1:
        raise ValueError(f"--negatives is {options.negatives}; it must be 1 or more.")
    from ..language.attributes import load_vocabulary
    from ..language.checks import NegativeChecker
    from ..language.pipeline import load_language
    from .page import sample_regions, sheet

    regions = sample_regions(Path(options.input), options.negatives, options.seed)
    page = sheet(regions, NegativeChecker(load_language(), load_vocabulary(None)))
    Path(options.output).write_text(page, encoding="utf-8")
    print(f"{len(regions)} regions, {sum(len(r['negatives']) for r in regions)} negatives: {options.output}")


if __name__ == "__main__":
    run_command(main)
