"""Shards and a card onto the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from dataset_scripts.card import dataset_card
from dataset_scripts.locking import writing
from dataset_scripts.progress import progress_bar
from dataset_scripts.shards import damaged_shards, manifest_path, read_manifests
from dataset_scripts.validate.check import check
from dataset_scripts.validate.report import save_sheet

_FILES_A_COMMIT = 20
_PREVIEW_RECORDS = 8


def _remote_files(api: HfApi, repo_id: str) -> dict[str, str]:
    """Path → SHA-256 (of large files; empty for small ones) of what is in the repository."""
    entries = api.list_repo_tree(repo_id, recursive=True, repo_type="dataset")
    return {entry.path: (entry.lfs.sha256 if entry.lfs else "") for entry in entries if isinstance(entry, RepoFile)}


def publish(
    folder: Path,
    repo_id: str,
    license_id: str = "unknown",
    private: bool = True,
    language: str = "en",
    api: HfApi | None = None,
) -> list[str]:
    """Uploads shards that are not yet there, then manifests, card and preview, and removes shards no longer listed.

    May be stopped at any moment: the same call uploads what is missing. The card, without which nobody finds the
    shards, comes last.

    Args:
        folder: as ``convert`` wrote it.
        repo_id: ``owner/name``; created if it is not there.
        license_id: as the Hub names licences.
        private: of a new repository.
        language: of the texts, ISO 639.
        api: to use instead of the default, which takes token and endpoint from the environment.

    Returns:
        Names of the shards that were uploaded in this call.

    Raises:
        ValueError: the folder has no manifest, a shard is not as its manifest says, another command writes there, or the
            Hub or the way to it failed.
    """
    with writing(folder):
        try:
            return _publish(folder, repo_id, license_id, private, language, api)
        except (HfHubHTTPError, RuntimeError) as error:  # the latter is what a broken upload of a large file raises
            raise ValueError(f"{error} (the same command goes on with what is missing)") from error


def _publish(
    folder: Path, repo_id: str, license_id: str, private: bool, language: str, api: HfApi | None
) -> list[str]:
    manifests = read_manifests(folder)
    if not manifests:
        raise ValueError(
            f"{folder} has no SPLIT-manifest.json; write shards with python -m dataset_scripts.convert first"
        )
    if damaged := damaged_shards(folder):
        raise ValueError(f"{len(damaged)} shards, such as {damaged[0]}, are not as their manifest says; convert again")
    card = dataset_card(repo_id, manifests, license_id, language)
    api = api or HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    wanted = {f"data/{shard['file']}": shard for manifest in manifests.values() for shard in manifest["shards"]}
    present = _remote_files(api, repo_id)
    missing = [path for path, shard in wanted.items() if present.get(path) != shard["sha256"]]
    with progress_bar(total=len(wanted), initial=len(wanted) - len(missing), desc="uploading", unit="shard") as bar:
        for start in range(0, len(missing), _FILES_A_COMMIT):
            paths = missing[start : start + _FILES_A_COMMIT]
            additions = [CommitOperationAdd(path, folder / wanted[path]["file"]) for path in paths]
            api.create_commit(repo_id, additions, commit_message=f"Add {len(paths)} shards", repo_type="dataset")
            bar.update(len(paths))
    stale = [path for path in present if path.startswith("data/") and path not in wanted and "manifest" not in path]
    with tempfile.TemporaryDirectory() as scratch:
        preview = Path(scratch) / "preview.png"
        save_sheet(check(str(folder), next(iter(manifests)), max_records=_PREVIEW_RECORDS), preview)
        operations = [
            *(CommitOperationAdd(f"data/{split}-manifest.json", manifest_path(folder, split)) for split in manifests),
            CommitOperationAdd("preview.png", preview),
            CommitOperationAdd("README.md", card.encode()),
            *(CommitOperationDelete(path) for path in stale),
        ]
        api.create_commit(repo_id, operations, commit_message="Card, manifests and preview", repo_type="dataset")
    return missing
