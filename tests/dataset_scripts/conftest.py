"""A small published layout, whole and damaged, for the tests of this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_scripts.sample import generate_sample


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared data sets go where the tests' other files go, and not to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache"))
        yield


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training and 12 test images, 64 pixels; read only."""
    return generate_sample(tmp_path_factory.mktemp("data") / "sample", seed=1, train=40, test=12, image_size=64)


@pytest.fixture
def layout(tmp_path: Path, sample: Path) -> Path:
    """A published layout of 40 records in 4 annotation files that a test may damage."""
    root = tmp_path / "layout"
    shutil.copytree(sample / "train", root)
    (whole,) = root.glob("jsonfiles/*.json")
    records = json.loads(whole.read_text())
    whole.unlink()
    for number in range(4):
        (root / "jsonfiles" / f"part-{number}.json").write_text(json.dumps(records[10 * number : 10 * number + 10]))
    return root
