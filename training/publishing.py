"""Publishes a checkpoint folder with a model card.

    python -m training.publishing outputs/stage2 user/my-fgclip --evaluation outputs/eval --dry_run

The repository then holds safetensors, configuration, processor, tokenizer, the remote code and a model card, and
nothing else: no pickle, no optimizer state, no logs.
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkpoint folder: output_dir of a run, or of `save_pretrained`")
    parser.add_argument("repo_id", help="user/name on the Hub; created if it does not exist")
    parser.add_argument("--evaluation", type=Path, help="--output of `python -m eval`: results for the card")
    parser.add_argument("--public", action="store_true", help="create a public repository (default: private)")
    parser.add_argument("--revision", help="branch to commit to (default: main)")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--commit_message", default="Publish FG-CLIP checkpoint")
    parser.add_argument("--card", type=Path, help="template of the model card (default: that of the family)")
    parser.add_argument("--dry_run", action="store_true", help="print the files and the card, upload nothing")
    args = parser.parse_args(arguments)
    from training.hub.publishing import publish, stage_repository

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.dry_run:
        with tempfile.TemporaryDirectory() as staged:
            for name in stage_repository(args.folder, args.repo_id, staged, args.evaluation, args.card):
                print(f"{(Path(staged) / name).stat().st_size:>12,}  {name}")
            print("\n" + (Path(staged) / "README.md").read_text(encoding="utf-8"))
        return
    commit = publish(
        args.folder,
        args.repo_id,
        args.evaluation,
        not args.public,
        args.revision,
        args.create_pr,
        args.commit_message,
        template=args.card,
    )
    print(f"Published: {commit.pr_url or commit.commit_url}")


if __name__ == "__main__":
    run_command(main)
