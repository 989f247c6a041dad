"""``fgclip publish-data PATH owner/name``: shards and a card onto the Hugging Face Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(
        description="Push shards and a generated card to the Hub. Private unless --public; may be stopped and repeated.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("path", type=Path, help="folder that convert or own_data wrote")
    parser.add_argument("repo_id", help="owner/name")
    parser.add_argument("--license", dest="license_id", default="unknown", help="as the Hub names licences")
    parser.add_argument("--language", default="en")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    parser.add_argument("--dry-run", action="store_true", help="print the card and the shards, and upload nothing")
    options = parser.parse_args(arguments)
    from dataset_scripts.card import dataset_card
    from dataset_scripts.shards import read_manifests
    from dataset_scripts.upload import publish

    if options.dry_run:
        manifests = read_manifests(options.path)
        if not manifests:
            raise ValueError(f"{options.path} has no SPLIT-manifest.json")
        print(dataset_card(options.repo_id, manifests, options.license_id, options.language))
        shards = sum(len(manifest["shards"]) for manifest in manifests.values())
        print(f"{shards} shards would be uploaded to {options.repo_id}; nothing was")
        return
    uploaded = publish(options.path, options.repo_id, options.license_id, not options.public, options.language)
    print(f"{len(uploaded)} shards uploaded to {options.repo_id}; the others were there")


if __name__ == "__main__":
    run_command(main)
