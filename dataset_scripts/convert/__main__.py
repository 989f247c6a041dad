"""``python -m dataset_scripts.convert LAYOUT OUTPUT``: FineHARD's published layout to trainable shards."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from dataset_scripts.convert.settings import ConvertSettings
from dataset_scripts.download import DownloadSettings
from dataset_scripts.report import Report
from fgclip.command_line import Parser, run_command


def add_output_arguments(parser: Parser) -> None:
    """The options that every conversion into shards has."""
    defaults = ConvertSettings()
    group = parser.add_argument_group("shards")
    group.add_argument("--split", default=defaults.split, help="name of the split, which begins every file name")
    group.add_argument("--format", dest="shard_format", choices=("parquet", "webdataset"), default="parquet")
    group.add_argument("--shard-size", type=int, default=defaults.shard_size, help="records a shard")
    group.add_argument("--seed", type=int, default=defaults.seed, help="of the order of records")
    group.add_argument(
        "--on-bad", choices=("skip", "raise"), default="skip", help="count faults, or stop at the first"
    )
    group.add_argument("--workers", type=int, default=16, help="threads that read, fetch and decode images")
    group.add_argument("--retry", action="store_true", help="of a finished conversion: try again what was left out")


def output_settings(options: argparse.Namespace) -> ConvertSettings:
    """The settings behind :func:`add_output_arguments`."""
    names = ("split", "shard_format", "shard_size", "seed", "on_bad", "workers")
    return ConvertSettings(**{name: getattr(options, name) for name in names})


def print_coverage(manifest: dict[str, Any], output: Path) -> None:
    """What was found, what is missing and why."""
    totals = manifest["totals"]
    print(f"\nannotations of {manifest['source']}\n{Report.from_dict(manifest['annotations'])}")
    print(f"\nimages\n{Report.from_dict(manifest['images'])}")
    tried = manifest["images"]["kept"]["records tried"]
    share = totals["records"] / tried if tried else 0.0
    print(
        f"\n{totals['records']:,} of {tried:,} records ({share:.1%}) with {totals['regions']:,} regions and "
        f"{totals['negatives']:,} negatives in {len(manifest['shards'])} shards ({totals['bytes'] / 1e6:,.1f} MB) "
        f"in {output}"
    )


def _parser() -> Parser:
    limits = DownloadSettings()
    parser = Parser(
        description="Join annotations and images of FineHARD's published layout into shuffled shards. May be killed at "
        "any moment; the same command goes on where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("root", help="folder or fsspec URL with jsonfiles/ (and url2key_jsons/, coyo_image_*/)")
    parser.add_argument("output", type=Path, help="folder of the shards")
    parser.add_argument("--images", nargs="+", default=None, help="folders of images under their published names")
    parser.add_argument("--img2dataset", nargs="+", default=None, help="folders that img2dataset wrote")
    parser.add_argument("--dry-run", action="store_true", help="read the annotations, count, and write nothing")
    add_output_arguments(parser)
    group = parser.add_argument_group("download")
    group.add_argument("--download", action="store_true", help="fetch images that are in none of the folders")
    group.add_argument("--timeout", type=float, default=limits.timeout, help="seconds for one image")
    group.add_argument("--connect-timeout", type=float, default=limits.connect_timeout, help="seconds")
    group.add_argument("--retries", type=int, default=limits.retries, help="after time-outs and busy servers")
    group.add_argument("--backoff", type=float, default=limits.backoff, help="seconds before the first retry")
    group.add_argument("--max-bytes", type=int, default=limits.max_bytes, help="of one image")
    group.add_argument("--private-hosts", action="store_true", help="allow hosts of this machine and its network")
    return parser


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    from dataset_scripts.convert.pipeline import check_unfinished, convert, work_folder
    from dataset_scripts.convert.source import finehard_source
    from dataset_scripts.locking import writing

    logging.basicConfig(level=logging.WARNING)
    names = ("timeout", "connect_timeout", "retries", "backoff", "max_bytes", "private_hosts")
    settings = output_settings(options)
    limits = DownloadSettings(**{name: getattr(options, name) for name in names}) if options.download else None
    urls = Report(settings.on_bad)
    if options.dry_run:
        source = finehard_source(options.root, Path("unused"), urls, options.images)
        drafts = sum(1 for _ in source.drafts(urls))
        print(f"{urls}\n{drafts:,} records would be looked for; nothing was written")
        return
    with writing(options.output):
        check_unfinished(options.output, settings.split, options.retry)  # before URL lists are read
        work = work_folder(options.output, settings.split) / "source"
        source = finehard_source(options.root, work, urls, options.images, options.img2dataset, limits)
        manifest = convert(source, options.output, settings, options.retry)
    if urls.kept or urls.problems:
        print(f"\nURLs\n{urls}")
    print_coverage(manifest, options.output)


if __name__ == "__main__":
    run_command(main)
