"""Converts checkpoints: any CLIP, SigLIP 2 NaFlex or published FG-CLIP into this format, and back.

python -m modeling_fgclip.convert openai/clip-vit-base-patch16 --output clip-fg       # any transformers CLIP
python -m modeling_fgclip.convert qihoo360/fg-clip-large --output fg-large            # a published FG-CLIP
python -m modeling_fgclip.convert laion/CLIP-ViT-B-16-laion2B-s34B-b88K --output fg   # an open_clip ViT
python -m modeling_fgclip.convert google/siglip2-base-patch16-naflex --output fg2    # an FG-CLIP 2 of SigLIP 2
python -m modeling_fgclip.convert qihoo360/fg-clip2-base --output fg2-base           # a published FG-CLIP 2
python -m modeling_fgclip.convert fg-large --to published --output old-format         # for people on old code
python -m modeling_fgclip.convert fg-large --to vision-tower --output tower           # the image encoder alone
python -m modeling_fgclip.convert qihoo360/fg-clip-large --code-only --output overlay # our code for old weights
python -m modeling_fgclip.convert wrapped --strip-prefix module. --output fg          # names as DDP writes them
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fgclip.command_line import Parser, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", help="folder or Hub id: FG-CLIP or FG-CLIP 2, transformers CLIP or SigLIP 2 NaFlex, or open_clip ViT"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must be empty or new")
    parser.add_argument("--to", choices=("fgclip", "published", "vision-tower"), default="fgclip")
    parser.add_argument(
        "--code-only", action="store_true", help="write code and configuration for the source's weights"
    )
    parser.add_argument("--revision", help="revision of the source on the Hub")
    parser.add_argument("--tokenizer", help="folder or Hub id of CLIP's tokenizer, if the source has none")
    parser.add_argument("--image-size", type=int, help="side of the vision tower's square images (FG-CLIP 2)")
    parser.add_argument("--strip-prefix", metavar="PREFIX", help="take this away from the names of the tensors")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights"
    )
    parser.add_argument("--push", metavar="USER/NAME", help="also upload the folder to this repository")
    parser.add_argument(
        "--public", action="store_true", help="with --push: create a public repository (default: private)"
    )
    parser.add_argument("--create-pr", action="store_true", help="with --push: as a pull request")
    args = parser.parse_args(arguments)
    if args.output.exists() and any(args.output.iterdir()):
        raise ValueError(
            f"{args.output} is not empty; give a new folder, so that nothing of another checkpoint stays."
        )
    if args.create_pr and not args.push:
        raise ValueError("--create-pr needs --push USER/NAME.")
    import torch
    from huggingface_hub import HfApi
    from transformers.utils import logging

    from .conversion import convert, fetch
    from .published_format import write_code

    if args.code_only:
        names = write_code(fetch(args.source, args.revision, weights=False), args.output)
        print(f"{args.source}: {len(names)} files to lay over its weights: {', '.join(names)}")
    else:
        logging.set_verbosity_error()  # the report says what the loading report says
        dtype = getattr(torch, args.dtype)
        print(
            convert(
                args.source,
                args.output,
                args.to,
                args.revision,
                args.tokenizer,
                dtype,
                args.strip_prefix,
                args.image_size,
            )
        )
    print(f"Wrote {args.output}")
    if args.push:
        api = HfApi()
        if not args.create_pr:
            api.create_repo(args.push, private=not args.public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=args.push,
            folder_path=args.output,
            create_pr=args.create_pr,
            commit_message=f"FG-CLIP {'code' if args.code_only else 'checkpoint'} converted from {args.source}"
            if not Path(args.source).exists()
            else "FG-CLIP checkpoint",
        )
        print(f"Published: {commit.pr_url or commit.commit_url}")


if __name__ == "__main__":
    run_command(main)
