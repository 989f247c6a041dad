"""Records to train on, map-style or streaming."""

import glob
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from dataset_scripts import load_training_data
from dataset_scripts.streaming import TrainingStream


def load_records(
    roots: Sequence[str], max_samples: int | None = None, on_bad: str = "skip", verify: bool = True
) -> Dataset:
    """Map-style records of one or several sources, concatenated.

    Args:
        roots: folders, globs of folders or URLs: FineHARD's published layout or shards (see `load_training_data`).
        max_samples: only so many, for a trial.
        on_bad: what is damaged is counted and passed over ("skip") or a ValueError ("raise").
        verify: compare shards with the SHA-256 of their manifest.
    """
    records = load_training_data(_expanded(roots), on_bad=on_bad, verify=verify)
    return records.select(range(min(max_samples, len(records)))) if max_samples else records


def load_stream(
    roots: Sequence[str],
    weights: Sequence[float] | None,
    seed: int,
    rank: int,
    world_size: int,
    on_bad: str = "skip",
    verify: bool = True,
) -> TrainingStream:
    """This rank's records of one or several sources, read as they are needed.

    Args:
        roots, on_bad, verify: as in [`load_records`].
        weights: how much each source gives; None: every record once an epoch.
    """
    return load_training_data(
        _expanded(roots),
        weights,
        streaming=True,
        seed=seed,
        rank=rank,
        world_size=world_size,
        on_bad=on_bad,
        verify=verify,
    )


def _expanded(roots: Sequence[str]) -> list[str]:
    """Sources with local globs replaced by the folders they match."""
    sources = []
    for root in map(str, roots):
        if "://" in root or not glob.has_magic(root) or Path(root).exists():
            sources.append(root)
            continue
        folders = sorted(path for path in glob.glob(root) if Path(path).is_dir())
        if not folders:
            raise ValueError(
                f"Received the training data {root!r}, which matches no folder. Name folders of shards or of FineHARD's "
                "published layout; `python -m dataset_scripts.sample --output DIR` generates one."
            )
        sources += folders
    return sources
