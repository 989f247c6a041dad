"""``python -m dataset_scripts.validate PATH``: is this set fit to train on?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_scripts.atomic import write_json
from fgclip.command_line import Parser, run_command
from modeling_fgclip.text_checks import read_literally

if TYPE_CHECKING:
    from dataset_scripts.validate.check import CountTokens

DEFAULT_TOKENIZER = "openai/clip-vit-base-patch16"  # FG-CLIP's


def token_counter(name: str) -> CountTokens:
    """Counts with a CLIP tokenizer from the Hub or a folder, which may be a checkpoint's.

    Raises:
        ValueError: it cannot be loaded.
    """
    from transformers import CLIPTokenizer

    try:
        # Not AutoTokenizer, which asks to run the code of a checkpoint whose configuration names some.
        tokenizer = read_literally(CLIPTokenizer.from_pretrained(name))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the tokenizer {name} cannot be loaded ({str(error)[:200]}); name another or a folder with --tokenizer, or "
            "leave token lengths out with --tokenizer none"
        ) from error
    # Texts beyond the model's length are just what is looked for.
    return lambda texts: [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(
        description="Check images, boxes, captions and negatives of shards or of FineHARD's published layout.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("path", help="folder or fsspec URL")
    parser.add_argument("--split", default="train")
    parser.add_argument("--tokenizer", default=DEFAULT_TOKENIZER, help="name or folder, or none")
    parser.add_argument("--max-records", type=int, default=None, help="stop after as many")
    parser.add_argument("--examples", type=int, default=16, help="pictures on the sheet")
    parser.add_argument("--output", type=Path, default=None, help="folder for report.json and sheet.png")
    parser.add_argument("--checksums", action="store_true", help="compare every shard with its manifest")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there is any error")
    options = parser.parse_args(arguments)
    from dataset_scripts.report import Report
    from dataset_scripts.shards import damaged_shards
    from dataset_scripts.validate.check import check
    from dataset_scripts.validate.records import raw_records
    from dataset_scripts.validate.report import as_dict, as_text, save_sheet

    # Says that there is nothing to check before a tokenizer is asked for, which may come from far.
    raw_records(options.path, options.split, Report())
    counter = None if options.tokenizer == "none" else token_counter(options.tokenizer)
    findings = check(options.path, options.split, counter, options.max_records, options.examples)
    if options.checksums:
        for name in damaged_shards(Path(options.path)):
            findings.errors.bad("shard is not as its manifest says", name)
    print(as_text(findings))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        write_json(options.output / "report.json", as_dict(findings))
        save_sheet(findings, options.output / "sheet.png")
        print(f"report.json and sheet.png are in {options.output}")
    if options.strict and not findings.is_clean:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
