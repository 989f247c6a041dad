"""Look at what a model sees.

python -m eval.visualize similarity --model A --model B --image photo.jpg --phrase "black dog" --phrase "black nose" --output DIR
python -m eval.visualize captions --model A --image photo.jpg --box 10,20,200,180 --caption "true" --caption "false" --output DIR
python -m eval.visualize failures --model A --data DIR --subset hard --output DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from eval.adapters import ModelAdapter, load_adapter
from eval.embed import Embedder
from eval.images import ImageFile, box_of_user
from eval.tasks import make_task
from eval.visualize.failures import find_failures, write_failures
from eval.visualize.figures import require_matplotlib
from eval.visualize.pages import NormalizedBox, file_tag, write_page
from eval.visualize.region_captions import write_caption_table
from eval.visualize.similarity import similarity_figure
from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> list[Path]:
    """Returns the files written.

    Raises:
        ValueError: whatever is wrong with model, images, boxes or data.
    """
    args = _parser().parse_args(arguments)
    require_matplotlib()  # before a model is loaded
    paths = {"similarity": similarity, "captions": captions, "failures": failures}[args.command](args)
    print("\n".join(f"wrote {path}" for path in paths))
    return paths


def similarity(args: argparse.Namespace) -> list[Path]:
    """Dense similarity maps: figure 4 with several models, figure 5 with several phrases."""
    _check_texts("--phrase", args.phrase)
    images = [_open(path) for path in args.image]  # before the models: a wrong path is told at once
    figure = similarity_figure(args.output / "similarity.png", _models(args.model), images, args.phrase)
    body = f"<figure>{file_tag(figure, 'similarity maps')}<figcaption>Cosine of every patch with each phrase; yellow is high, each map stretched to its own range.</figcaption></figure>"
    return [figure, write_page(args.output / "similarity.html", "Dense similarity maps", body)]


def captions(args: argparse.Namespace) -> list[Path]:
    """One region against several captions: table 7."""
    image = _open(args.image)
    box = _box(args.box, args.image, image)
    _check_texts("--caption", args.caption)
    if len(args.caption) < 2:
        raise ValueError("--caption is needed twice at least, the true caption first.")
    return write_caption_table(args.output, _models(args.model), image, box, args.caption, args.region_features)


def failures(args: argparse.Namespace) -> list[Path]:
    """FG-OVD failures."""
    if args.count < 1:
        raise ValueError(f"--count, how many to show, must be at least 1; got {args.count}.")
    if args.task == "negatives" and args.subset is not None:
        raise ValueError(f"--subset is about --task fgovd; negatives has none, got {args.subset!r}. Leave it out.")
    subset = (args.subset or "hard") if args.task == "fgovd" else "negatives"
    only = {"subsets": subset} if args.task == "fgovd" else {}  # the other files need not be there
    task = make_task(args.task, {"data": args.data} | only | _options(args.option))
    adapter = load_adapter(args.model)
    embedder = Embedder(
        adapter, region_features=args.region_features, allow_missing=args.allow_missing, num_workers=args.num_workers
    )
    found, wrong, total = find_failures(task, embedder, subset, args.count)
    title = f"{adapter.name} on {args.task} {subset}: {wrong} of {total} wrong, the {len(found)} clearest"
    print(title)
    return write_failures(args.output, found, title)


def _models(checkpoints: Sequence[str]) -> dict[str, ModelAdapter]:
    adapters = [load_adapter(checkpoint) for checkpoint in checkpoints]
    names = headings([adapter.name for adapter in adapters], checkpoints)
    return dict(zip(names, adapters, strict=True))


def headings(names: Sequence[str], checkpoints: Sequence[str]) -> list[str]:
    """What each model is called beside the others; no two the same.

    A name that several share is replaced by as many last parts of their folders as tell them apart, and is counted where
    the folder is the same, or there is none.
    """
    paths = [
        Path(checkpoint).absolute().parts if Path(checkpoint).is_dir() else (name,)
        for name, checkpoint in zip(names, checkpoints, strict=True)
    ]
    found: list[str] = []
    for number, name in enumerate(names):
        rivals = [path for other, path in zip(names, paths, strict=True) if other == name]
        if len(rivals) > 1:
            longest = max(map(len, rivals))
            depth = next((d for d in range(2, longest) if len({r[-d:] for r in rivals}) == len(set(rivals))), longest)
            name = "/".join(paths[number][-depth:]).lstrip("/")
            if rivals.count(paths[number]) > 1:
                name = f"{name} ({paths[: number + 1].count(paths[number])})"
        found.append(name)
    return found


def _options(options: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE as a dictionary.

    Raises:
        ValueError: another form.
    """
    for option in options:
        name, equals, _ = option.partition("=")
        if not (name and equals):
            raise ValueError(f"--option looks like NAME=VALUE, e.g. images=/data/coco; got {option!r}.")
    return dict(option.split("=", 1) for option in options)


def _check_texts(option: str, texts: Sequence[str]) -> None:
    if not all(text.strip() for text in texts):
        raise ValueError(f"{option} is empty; pass a text.")


def _open(path: Path) -> Image.Image:
    return ImageFile(path).open()


def _box(text: str, path: Path, image: Image.Image) -> NormalizedBox:
    """Pixels x1,y1,x2,y2 as fractions, cut to the image.

    Raises:
        ValueError: not four numbers, or no box of this image.
    """
    try:
        pixels = [float(part) for part in text.split(",")]
    except ValueError:
        pixels = []
    if len(pixels) != 4:
        raise ValueError(f"--box must be x1,y1,x2,y2 in pixels; got {text!r}.")
    return tuple(box_of_user(pixels, path, image).tolist())


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
