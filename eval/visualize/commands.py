"""What `fgclip visualize` does: similarity maps, a region against captions, failures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dataset_scripts.pages import file_url
from eval.adapters import ModelAdapter, load_adapter
from eval.embed import Embedder
from eval.images import ImageFile, box_of_user
from eval.tasks import make_task
from eval.visualize.failures import find_failures, write_failures
from eval.visualize.figures import require_matplotlib
from eval.visualize.pages import NormalizedBox, write_page
from eval.visualize.region_captions import write_caption_table
from eval.visualize.similarity import similarity_figure


def run(args: argparse.Namespace) -> list[Path]:
    """Returns the files written."""
    require_matplotlib()  # before a model is loaded
    return {"similarity": similarity, "captions": captions, "failures": failures}[args.command](args)


def similarity(args: argparse.Namespace) -> list[Path]:
    """Dense similarity maps: figure 4 with several models, figure 5 with several phrases."""
    _check_texts("--phrase", args.phrase)
    images = [_open(path) for path in args.image]  # before the models: a wrong path is told at once
    figure = similarity_figure(args.output / "similarity.png", _models(args.model), images, args.phrase)
    page = write_page(args.output / "similarity.html", "Dense similarity maps", figure=file_url(figure))
    return [figure, page]


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
