"""From records to FineHARD's published layout: jsonfiles/*.json and images/coyo_image_0/00000/ID.jpg.

python -m dataset_scripts.curation.export --input FOLDER --output ROOT
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", required=True, help="output folder of the pipeline, or a folder of record shards")
    parser.add_argument("--output", required=True, help="root of the published layout")
    options = parser.parse_args(arguments)
    from .published_layout import export

    number = export(Path(options.input), Path(options.output))
    print(json.dumps({"records": number, "root": options.output}))


if __name__ == "__main__":
    run_command(main)
