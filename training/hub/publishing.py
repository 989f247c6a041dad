"""Publishes a checkpoint folder, from the command line or from a trainer.

The repository then holds safetensors, configuration, processor, tokenizer, the remote code and a model card, and
nothing else: no pickle, no optimizer state, no logs.
"""

import logging
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.utils import HfHubHTTPError

from modeling_fgclip.checkpoint_folder import add_integrations, repository_files

from .model_card import render_card

logger = logging.getLogger(__name__)


def stage_repository(
    folder: str | Path,
    repo_id: str,
    output: str | Path,
    evaluation: str | Path | None = None,
    template: str | Path | None = None,
) -> list[str]:
    """Copies into `output` exactly what a repository is to hold, completes it and renders its card.

    Returns:
        the names of the files.
    Raises:
        ValueError: for a folder without FG-CLIP weights and processor.
    """
    folder, output = Path(folder), Path(output)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give the output_dir of a finished run or a checkpoint folder.")
    names = repository_files(folder)
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"{folder} holds no model.safetensors; save the model there first (`save_pretrained`).")
    if "processor_config.json" not in names:
        raise ValueError(f"{folder} holds no processor_config.json; save the processor there too (`save_pretrained`).")
    output.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(folder / name, output / name)
    add_integrations(output)
    (output / "README.md").write_text(str(render_card(folder, repo_id, evaluation, template)) + "\n", encoding="utf-8")
    return sorted(path.name for path in output.iterdir())


def publish(
    folder: str | Path,
    repo_id: str,
    evaluation: str | Path | None = None,
    private: bool = True,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Publish FG-CLIP checkpoint",
    token: str | None = None,
    template: str | Path | None = None,
) -> CommitInfo:
    """Publishes a checkpoint folder; files of the repository that are not part of it are removed.

    Args:
        folder: written by the trainer or by `save_pretrained` of model and processor.
        repo_id: `user/name`, created if it does not exist.
        evaluation: `--output` of `python -m eval`: its results go into the card.
        private: of a repository that is created.
        revision: branch to commit to.
        create_pr: propose the change as a pull request instead.
        token: by default the one of `hf auth login` or HF_TOKEN.

    Raises:
        ValueError: for a folder that is no checkpoint, and when the Hub refuses.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as staged:
        names = stage_repository(folder, repo_id, staged, evaluation, template)
        try:
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            logger.info("Publishing %d files to %s", len(names), repo_id)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=staged,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                delete_patterns=["*"],
            )
        except HfHubHTTPError as error:
            raise ValueError(
                f"The Hub refused to take {repo_id}: {error.server_message or error}. Log in with `hf auth login` with a "
                "token that may write there, and check the name (user/name)."
            ) from error
