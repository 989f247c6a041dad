"""Embeds images once and searches them by text, image or region.

python -m eval.search index photos --model MODEL --output photos-index
python -m eval.search query photos-index --model MODEL --text "a light blue mug on a wooden table"
python -m eval.search query photos-index --model MODEL --image mug.jpg --box 40 60 210 230
python -m eval.search query photos-index --model MODEL --text "a mug" --format html --images photos > hits.html
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.arguments import PRECISIONS
from fgclip.command_line import Parser, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises:
    ValueError: whatever is wrong with model, images or index.
    """
    args = _parser().parse_args(arguments)
    if args.command == "query":
        _check_query(args)
    from eval.adapters import load_adapter
    from eval.embed import Embedder
    from eval.images import ImageFile, box_of_user
    from eval.search.build import build, require_faiss
    from eval.search.index import SearchIndex
    from eval.search.show import as_html, as_json, as_table
    from eval.search.source import open_collection

    require_faiss()  # before the model is loaded
    collection = open_collection(args.images, args.split, args.column) if args.command == "index" else None
    adapter = load_adapter(args.model, revision=args.revision)
    embedder = Embedder(
        adapter, args.batch_size, args.num_workers, args.precision, allow_missing=True, distributed=False
    )
    if collection is not None:
        summary = build(collection, embedder, args.output, args.grid, args.shard_size, args.index_type)
        rate = f", {summary.embedded_now / summary.seconds:.1f} images/s" if summary.embedded_now else ""
        if summary.changed_shards:
            print(
                f"{summary.changed_shards} of the shards embedded again: images of theirs have changed, or an earlier version had "
                "not noted them"
            )
        print(
            f"{summary.images} images ({summary.unreadable} unreadable), {summary.embedded_now} embedded now{rate}; "
            f"{summary.vectors} vectors in {args.output}"
        )
        return
    index = SearchIndex(args.index, embedder)
    if args.text is not None:
        hits = index.by_text(args.text, args.top, args.long)
    else:
        image = ImageFile(args.image).open()
        if args.box is not None:
            box_of_user(args.box, args.image, image)  # refused or warned of by the name of its file
        hits = index.by_image(image, args.top) if args.box is None else index.by_region(image, args.box, args.top)
    if args.format == "html":
        pictures = open_collection(args.images, args.split, args.column) if args.images else None
        named = {} if pictures is None else dict(zip(pictures.names, pictures.images, strict=True))
        print(as_html(hits, args.text or str(args.image), named))
    else:
        print(as_table(hits) if args.format == "table" else as_json(hits))


def _check_query(args: argparse.Namespace) -> None:
    """Raises:
    ValueError: options that would go unused, or no hit asked for.
    """
    if args.text is not None and args.box is not None:
        raise ValueError("--box is a region of --image; it was given with --text. Leave out one of the two.")
    if args.image is not None and args.long:
        raise ValueError("--long is about --text; it was given with --image. Leave it out.")
    if args.text is not None and not args.text.strip():
        raise ValueError("--text is empty; pass what to look for.")
    if args.images and args.format != "html":
        raise ValueError("--images are what --format html shows; leave them out, or ask for html.")
    if args.top < 1:
        raise ValueError(f"--top, the number of hits, must be at least 1; got {args.top}.")


def _parser() -> Parser:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser(
        "index",
        help="embed images and build the index; goes on where it was interrupted, and again where images changed",
    )
    index.add_argument("images", help="folder, or user/name of a data set on the Hub")
    index.add_argument("--output", type=Path, required=True, help="folder for the parquet shards and the index")
    index.add_argument("--split", default="train", help="of a data set (default: train)")
    index.add_argument("--column", default="image", help="of a data set (default: image)")
    index.add_argument(
        "--grid", type=int, default=0, help="also embed N x N boxes of each image, to find small things"
    )
    index.add_argument("--shard_size", type=int, default=4096, help="images a parquet file (default: 4096)")
    index.add_argument("--index_type", default="Flat", help='of faiss.index_factory, e.g. "IVF4096,PQ64" for millions')
    query = commands.add_parser("query", help="search an index")
    query.add_argument("index", type=Path, help="--output of `index`")
    what = query.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="find images that fit it")
    what.add_argument("--image", type=Path, help="find images like it, or with --box like a region of it")
    query.add_argument("--long", action="store_true", help="the text is a long caption")
    query.add_argument("--box", type=float, nargs=4, metavar=("X1", "Y1", "X2", "Y2"), help="of --image, in pixels")
    query.add_argument(
        "--format", choices=("table", "json", "html"), default="table", help="of what is printed (default: table)"
    )
    query.add_argument("--images", help="with --format html: the folder or data set of the index, to show its images")
    query.add_argument("--split", default="train", help="of --images (default: train)")
    query.add_argument("--column", default="image", help="of --images (default: image)")
    query.add_argument("--top", type=int, default=10, help="how many hits (default: 10)")
    for command in (index, query):
        command.add_argument("--model", required=True, help="FG-CLIP (or another model of eval) as folder or Hub id")
        command.add_argument("--revision", help="of the model on the Hub")
        command.add_argument(
            "--batch_size", type=int, help="images a batch; default: 64 on an accelerator, 8 on a CPU"
        )
        command.add_argument(
            "--num_workers", type=int, help="loading processes; default: 2 beside an accelerator, none on a CPU"
        )
        command.add_argument("--precision", choices=PRECISIONS, default="float32")
    return parser


if __name__ == "__main__":
    run_command(main)
