"""Look at what a model sees.

python -m eval.visualize similarity --model A --model B --image photo.jpg --phrase "black dog" --phrase "black nose" --output DIR
python -m eval.visualize captions --model A --image photo.jpg --box 10,20,200,180 --caption "true" --caption "false" --output DIR
python -m eval.visualize failures --model A --data DIR --subset hard --output DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> list[Path]:
    """Returns the files written.

    Raises:
        ValueError: whatever is wrong with model, images, boxes or data.
    """
    args = _parser().parse_args(arguments)
    from eval.visualize.commands import run

    paths = run(args)
    print("\n".join(f"wrote {path}" for path in paths))
    return paths


def _parser() -> Parser:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    maps = commands.add_parser("similarity", help="dense similarity maps of phrases over images")
    maps.add_argument("--model", action="append", required=True, help="checkpoint; repeat for several side by side")
    maps.add_argument("--image", action="append", required=True, type=Path, help="image; repeat for several")
    maps.add_argument("--phrase", action="append", required=True, help="phrase; repeat for several")
    table = commands.add_parser("captions", help="a region against captions, normalized as table 7")
    table.add_argument("--model", action="append", required=True, help="checkpoint; repeat for several side by side")
    table.add_argument("--image", required=True, type=Path, help="image")
    table.add_argument("--box", required=True, help="x1,y1,x2,y2 in pixels")
    table.add_argument("--caption", action="append", required=True, help="caption, the true one first; repeat")
    wrong = commands.add_parser("failures", help="FG-OVD rows that a model gets wrong")
    wrong.add_argument("--model", required=True, help="checkpoint")
    wrong.add_argument("--task", choices=["fgovd", "negatives"], default="fgovd", help="whose rows (default: fgovd)")
    wrong.add_argument("--data", required=True, type=Path, help="folder with the task's files")
    wrong.add_argument("--option", action="append", default=[], help="option of the task as NAME=VALUE; repeat")
    wrong.add_argument("--subset", help="of fgovd: hard, medium, easy or trivial (default: hard)")
    wrong.add_argument("--count", type=int, default=24, help="how many to show (default: 24)")
    wrong.add_argument(
        "--num_workers", type=int, help="loading processes; default: 2 beside an accelerator, none on a CPU"
    )
    wrong.add_argument("--allow_missing", action="store_true", help="leave out images that are missing or broken")
    for command in (maps, table, wrong):
        command.add_argument("--output", required=True, type=Path, help="folder to write to")
    for command in (table, wrong):
        command.add_argument(
            "--region_features",
            choices=["dense", "crop"],
            default="dense",
            help="RoIAlign over dense features, or the box as an image of its own (default: dense)",
        )
    return parser


if __name__ == "__main__":
    run_command(main)
