"""Puts a demo on the Hub as a Space: its page, the code it runs on, its requirements, and what it shows.

    python -m spaces.publish regions user/regions --model user/my-fgclip --dry-run
    python -m spaces.publish retrieval user/search --model user/my-fgclip --images photos
    python -m spaces.publish api user/embeddings --model user/my-fgclip

Private unless --public is given. The Space holds this checkout's `eval` and what that needs, so that it runs on the
code it was tried with. A Space reads a private model or data set only with a token: set it as the secret HF_TOKEN in
the Space's settings; this command uploads none.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, RepoCard
from huggingface_hub.utils import HfHubHTTPError, validate_repo_id

from dataset_scripts.paths import image_files
from fgclip.command_line import Parser, run_command

ROOT = Path(__file__).parents[1]
# What is deployed, and by which kind of Space.
SDKS = {"regions": "gradio", "retrieval": "gradio", "api": "docker"}
PACKAGES = ("eval", "dataset_scripts", "modeling_fgclip", "fgclip")
IMAGES = "images"  # folder of the Space for a local folder's images
MAX_IMAGES_MB = 900  # a Space without paid storage holds 1 GB

logger = logging.getLogger(__name__)


def stage_space(demo: str, output: Path, model: str, images: str | None = None) -> dict[str, str]:
    """Writes into `output` exactly what the Space is to hold.

    Args:
        demo: "regions", "retrieval" or "api".
        model: id of a checkpoint on the Hub.
        images: for "retrieval": a folder, which is copied, or the id of a data set on the Hub.
    Returns:
        the Space's variables.
    Raises:
        ValueError: for a model that is not on the Hub, missing or needless images, and too many of them.
    """
    if Path(model).exists():
        raise ValueError(
            f"--model {model} is a folder here, which a Space cannot see. Publish it first "
            f"(`python -m training.publishing {model} user/name`) and give its id."
        )
    _require_id(model, "--model")
    if (images is None) == (demo == "retrieval"):
        raise ValueError("--images FOLDER (or user/dataset) belongs to the demo retrieval, and only to it.")
    variables = {"FGCLIP_MODEL": model}
    for name in PACKAGES:
        shutil.copytree(ROOT / name, output / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for source, name in _files(demo).items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "spaces" / source, output / name)
    card = RepoCard.load(ROOT / "spaces" / demo / "README.md", repo_type="space")
    card.data["models"] = [model]
    if images is not None and Path(images).is_dir():
        _copy_images(Path(images), output / IMAGES)
        variables["FGCLIP_IMAGES"] = IMAGES
    elif images is not None:
        _require_id(images, "--images")
        card.data["datasets"] = [images]
        variables["FGCLIP_IMAGES"] = images
    card.save(output / "README.md")
    return variables


def _files(demo: str) -> dict[str, str]:
    """Files of `spaces/` by their place in the Space."""
    if SDKS[demo] == "docker":
        sources = sorted(path.relative_to(ROOT / "spaces").as_posix() for path in (ROOT / "spaces" / demo).glob("*.*"))
        return {f"{demo}/Dockerfile": "Dockerfile"} | {name: f"spaces/{name}" for name in sources}
    return {name: name for name in ("common.py", "requirements.txt", f"{demo}/app.py")}


def publish_space(
    demo: str,
    repo_id: str,
    model: str,
    images: str | None = None,
    private: bool = True,
    commit_message: str = "Publish FG-CLIP demo",
    token: str | None = None,
) -> CommitInfo:
    """Creates or updates a Space; files of it that are not part of the demo are removed.

    Raises:
        ValueError: as [`stage_space`], for a model that the account cannot read, and when the Hub refuses.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        variables = stage_space(demo, Path(folder), model, images)
        try:
            if api.model_info(model).private:
                logger.info("%s is private: set the secret HF_TOKEN in the settings of %s.", model, repo_id)
            repo_id = api.create_repo(
                repo_id, repo_type="space", space_sdk=SDKS[demo], private=private, exist_ok=True
            ).repo_id
            # Before the files, whose arrival starts the Space.
            for name, value in variables.items():
                api.add_space_variable(repo_id, name, value)
            return api.upload_folder(
                repo_id=repo_id,
                repo_type="space",
                folder_path=folder,
                commit_message=commit_message,
                delete_patterns=["*"],
            )
        except HfHubHTTPError as error:
            raise ValueError(
                f"The Hub refused ({error.server_message or error}). Log in with `hf auth login` with a token that may "
                f"write to {repo_id}, and check that {model} exists there."
            ) from error


def _require_id(name: str, option: str) -> None:
    try:
        validate_repo_id(name)
    except ValueError as error:
        raise ValueError(f"{option} {name} is neither a folder nor the id of a repository: {error}") from None


def _copy_images(source: Path, target: Path) -> None:
    paths = image_files(source)
    size = sum(path.stat().st_size for path in paths) / 1e6
    if size > MAX_IMAGES_MB:
        raise ValueError(
            f"--images {source} holds {size:.0f} MB; a Space takes {MAX_IMAGES_MB}. Publish them as a data set and give "
            "its id."
        )
    for path in paths:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("demo", choices=tuple(SDKS))
    parser.add_argument("repo_id", help="user/name of the Space; created if it does not exist")
    parser.add_argument("--model", required=True, help="checkpoint on the Hub")
    parser.add_argument("--images", help="for retrieval: folder (uploaded) or id of a data set on the Hub")
    parser.add_argument("--public", action="store_true", help="create a public Space (default: private)")
    parser.add_argument("--commit-message", default="Publish FG-CLIP demo")
    parser.add_argument("--dry-run", action="store_true", help="print files and variables, upload nothing")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    if args.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            variables = stage_space(args.demo, Path(folder), args.model, args.images)
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                print(f"{path.stat().st_size:>12,}  {path.relative_to(folder)}")
            print("\n".join(f"{name}={value}" for name, value in variables.items()))
        return
    commit = publish_space(args.demo, args.repo_id, args.model, args.images, not args.public, args.commit_message)
    print(f"Published: {commit.commit_url}")


if __name__ == "__main__":
    run_command(main)
