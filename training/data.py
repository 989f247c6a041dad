"""Records to train on."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from dataset_scripts.finehard import FineHARD


def load_records(roots: Sequence[str], max_samples: int | None = None) -> Dataset:
    """Map-style records of one or several folders in FineHARD's published layout, concatenated."""
    parts = []
    for root in roots:
        if not Path(root).is_dir():
            raise ValueError(
                f"Received the training data {root!r}, which is not a folder. It must hold jsonfiles/ and images/ in "
                "FineHARD's published layout; `python -m dataset_scripts.sample --output DIR` generates one."
            )
        builder = FineHARD(root=root)
        builder.download_and_prepare()
        parts.append(builder.as_dataset(split="train"))
    records = concatenate_datasets(parts)
    return records.select(range(min(max_samples, len(records)))) if max_samples else records
