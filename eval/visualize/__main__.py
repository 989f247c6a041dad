"""Look at what a model sees.

python -m eval.visualize similarity --model A --model B --image photo.jpg --phrase "black dog" --phrase "black nose" --output DIR
python -m eval.visualize captions --model A --image photo.jpg --box 10,20,200,180 --caption "true" --caption "false" --output DIR
python -m eval.visualize failures --model A --data DIR --subset hard --output DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from eval.adapters import ModelAdapter, load_adapter
from eval.embed import Embedder
from eval.images import ImageFile
from eval.similarity import similarity_figure
from eval.tasks import make_task
from eval.visualize.failures import find_failures, write_failures
from eval.visualize.pages import file_tag, write_page
from eval.visualize.region_captions import Box, write_caption_table


def main(arguments: list[str] | None = None) -> list[Path]:
    """Returns the files written.

    Raises:
        ValueError: whatever is wrong with model, images, boxes or data.
    """
    args = _parser().parse_args(arguments)
    paths = {"similarity": similarity, "captions": captions, "failures": failures}[args.command](args)
    print("\n".join(f"wrote {path}" for path in paths))
    return paths


def similarity(args: argparse.Namespace) -> list[Path]:
    """Dense similarity maps: figure 4 with several models, figure 5 with several phrases."""
    figure = similarity_figure(
        args.output / "similarity.png", _models(args.model), [_open(p) for p in args.image], args.phrase
    )
    body = f"<figure>{file_tag(figure, 'similarity maps')}<figcaption>Cosine of every patch with each phrase; yellow is high, each map stretched to its own range.</figcaption></figure>"
    return [figure, write_page(args.output / "similarity.html", "Dense similarity maps", body)]


def captions(args: argparse.Namespace) -> list[Path]:
    """One region against several captions: table 7."""
    image = _open(args.image)
    return write_caption_table(
        args.output, _models(args.model), image, _box(args.box, image), args.caption, args.region_features
    )


def failures(args: argparse.Namespace) -> list[Path]:
    """FG-OVD failures."""
    options = {"data": args.data} | dict(option.split("=", 1) for option in args.option)
    task = make_task(args.task, options)
    adapter = load_adapter(args.model)
    embedder = Embedder(
        adapter, region_features=args.region_features, allow_missing=args.allow_missing, num_workers=args.num_workers
    )
    subset = args.subset if args.task == "fgovd" else "negatives"
    found, wrong, total = find_failures(task, embedder, subset, args.count)
    title = f"{adapter.name} on {args.task} {subset}: {wrong} of {total} wrong, the {len(found)} clearest"
    return write_failures(args.output, found, title)


def _models(checkpoints: list[str]) -> dict[str, ModelAdapter]:
    return {adapter.name: adapter for adapter in map(load_adapter, checkpoints)}


def _open(path: Path) -> Image.Image:
    return ImageFile(path).open()


def _box(text: str, image: Image.Image) -> Box:
    """Pixels x1,y1,x2,y2 as fractions.

    Raises:
        ValueError: not four numbers.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--box must be x1,y1,x2,y2 in pixels; got {text!r}.") from None
    return x1 / image.width, y1 / image.height, x2 / image.width, y2 / image.height


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    maps = commands.add_parser("similarity", help="dense similarity maps of phrases over images", allow_abbrev=False)
    maps.add_argument("--model", action="append", required=True, help="checkpoint; repeat for several side by side")
    maps.add_argument("--image", action="append", required=True, type=Path, help="image; repeat for several")
    maps.add_argument("--phrase", action="append", required=True, help="phrase; repeat for several")
    table = commands.add_parser(
        "captions", help="a region against captions, normalised as table 7", allow_abbrev=False
    )
    table.add_argument("--model", action="append", required=True, help="checkpoint; repeat for several side by side")
    table.add_argument("--image", required=True, type=Path)
    table.add_argument("--box", required=True, help="x1,y1,x2,y2 in pixels")
    table.add_argument("--caption", action="append", required=True, help="caption, the true one first; repeat")
    wrong = commands.add_parser("failures", help="FG-OVD rows that a model gets wrong", allow_abbrev=False)
    wrong.add_argument("--model", required=True)
    wrong.add_argument("--task", choices=["fgovd", "negatives"], default="fgovd")
    wrong.add_argument("--data", required=True, type=Path)
    wrong.add_argument("--option", action="append", default=[], help="option of the task as NAME=VALUE; repeat")
    wrong.add_argument("--subset", default="hard", help="hard, medium, easy or trivial (default: hard)")
    wrong.add_argument("--count", type=int, default=24, help="how many to show (default: 24)")
    wrong.add_argument("--num_workers", type=int, default=2)
    wrong.add_argument("--allow_missing", action="store_true")
    for command in (maps, table, wrong):
        command.add_argument("--output", required=True, type=Path, help="folder to write to")
    for command in (table, wrong):
        command.add_argument("--region_features", choices=["dense", "crop"], default="dense")
    return parser


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # OSError: a checkpoint or a disk that lacks something
        sys.exit(f"python -m eval.visualize: error: {' '.join(str(error).split())}")
