"""``python -m dataset_scripts.own_data KIND …``: other data sets to trainable shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset_scripts import convert, own_data
from dataset_scripts.convert.__main__ import add_output_arguments, output_settings, print_coverage
from dataset_scripts.own_data.columns import Columns
from fgclip.command_line import Parser, run_command

_BOX_FORMATS = ("normalized", "xyxy", "xywh")


def _add_columns(parser: Parser, image: bool = True) -> None:
    defaults = Columns()
    group = parser.add_argument_group("columns (a dot reaches into a nested one)")
    if image:
        group.add_argument("--image-column", default=defaults.image)
    group.add_argument("--caption-column", default=None, help="long caption")
    group.add_argument("--short-caption-column", default=None)
    group.add_argument("--regions-column", default=None, help="list of bbox, short_expr, long_expr, negatives, score")
    group.add_argument("--id-column", default=None)
    group.add_argument("--width-column", default=None, help="width of the image, as the boxes have it")
    group.add_argument("--height-column", default=None, help="its height")
    group.add_argument(
        "--box-format", choices=_BOX_FORMATS, default=defaults.box_format, help="the latter two in pixels"
    )


def _columns(options: argparse.Namespace) -> Columns:
    if options.caption_column is None and options.short_caption_column is None:
        raise ValueError("name at least one of --caption-column and --short-caption-column")
    return Columns(
        image=getattr(options, "image_column", "image"),
        caption=options.caption_column,
        short_caption=options.short_caption_column,
        regions=options.regions_column,
        source_id=options.id_column,
        width=options.width_column,
        height=options.height_column,
        box_format=options.box_format,
    )


def _source(options: argparse.Namespace) -> convert.Source:
    match options.kind:
        case "coco":
            return own_data.coco_source(options.captions, options.instances, options.images)
        case "flickr30k":
            return own_data.flickr30k_source(options.annotations, options.images)
        case "referring":
            return own_data.referring_source(options.file, options.images, options.box_format, options.instances)
        case "karpathy":
            return own_data.karpathy_source(options.file, options.images, options.karpathy_splits)
        case "sharegpt4v":
            return own_data.sharegpt4v_source(options.file, options.images)
        case "dci":
            return own_data.dci_source(options.annotations, options.images)
        case "openimages":
            return own_data.open_images_source(options.annotations, options.classes, options.images)
        case "table":
            folder = options.images or str(options.file.parent)
            return own_data.table_source(options.file, folder, _columns(options), options.encoding)
        case "images":
            return own_data.folder_source(options.folder)
        case "parquet":
            return own_data.parquet_source(options.place, _columns(options))
        case "webdataset":
            return own_data.webdataset_source(options.folder, _columns(options))
        case _:
            return own_data.hub_source(
                options.name, _columns(options), options.hub_split, options.hub_config, options.hub_revision
            )


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)

    def add(name: str, description: str) -> Parser:
        one = kinds.add_parser(
            name, help=description, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        one.add_argument("--output", type=Path, required=True, help="folder of the shards")
        add_output_arguments(one)
        return one

    one = add(
        "coco", "COCO captions, and instances as regions; instances alone name what is in the boxes as the caption"
    )
    one.add_argument("captions", type=Path, nargs="?", default=None, help="captions_*.json")
    one.add_argument("--instances", type=Path, default=None, help="instances_*.json or lvis_*.json")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one = add("flickr30k", "Flickr30k Entities")
    one.add_argument("annotations", type=Path, help="folder with Sentences/ and Annotations/")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one = add("referring", "referring expressions as JSON")
    one.add_argument("file", type=Path, help=".json or .jsonl")
    one.add_argument("--instances", type=Path, default=None, help="RefCOCO's instances.json, with the boxes by ann_id")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one.add_argument("--box-format", choices=_BOX_FORMATS, default="xywh")
    one = add("karpathy", "Karpathy's splits of COCO, Flickr30k and Flickr8k")
    one.add_argument("file", type=Path, help="dataset_coco.json, dataset_flickr30k.json or dataset_flickr8k.json")
    one.add_argument("--karpathy-splits", nargs="+", default=["train", "restval"], help="which images")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one = add("sharegpt4v", "ShareGPT4V's long captions")
    one.add_argument("file", type=Path, help="share-captioner_*.json")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one = add("dci", "Densely Captioned Images")
    one.add_argument("annotations", type=Path, help="folder with *.json")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one = add("openimages", "boxes of Open Images; the classes in an image are its caption")
    one.add_argument("annotations", type=Path, help="*-annotations-bbox.csv")
    one.add_argument("--classes", type=Path, required=True, help="class-descriptions-boxable.csv")
    one.add_argument("--images", required=True, help="folder or URL of the images")
    one = add("table", "a CSV, TSV, JSON or JSON lines file beside a folder of images")
    one.add_argument("file", type=Path)
    one.add_argument("--encoding", default=None, help="of the file, such as cp1252; by default UTF-8 or its mark's")
    one.add_argument("--images", default=None, help="folder or URL of the images; by default the file's folder")
    _add_columns(one)
    one = add("images", "a folder of images, each with its caption in NAME.txt beside it")
    one.add_argument("folder", type=Path)
    one = add("parquet", "parquet files that hold encoded images")
    one.add_argument("place", type=Path, help="a file, or a folder with *.parquet")
    _add_columns(one)
    one = add("webdataset", "WebDataset tars")
    one.add_argument("folder", type=Path, help="with *.tar")
    _add_columns(one, image=False)
    one = add("hub", "a data set on the Hugging Face Hub")
    one.add_argument("name", help="owner/name")
    one.add_argument("--hub-split", default="train", help="which split to read")
    one.add_argument("--hub-config", default=None)
    one.add_argument("--hub-revision", default=None)
    _add_columns(one)
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    manifest = convert.convert(_source(options), options.output, output_settings(options), options.retry)
    print_coverage(manifest, options.output)


if __name__ == "__main__":
    run_command(main)
