"""What runs in processes of their own start from: a small checkpoint, and generated records as a layout and as shards."""

from pathlib import Path

import pytest

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.report import Report
from dataset_scripts.sample import generate_sample
from tests.conftest import make_processor, make_tiny_model

RECORDS = 40


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint."""
    folder = tmp_path_factory.mktemp("start")
    processor = make_processor()
    make_tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated sample with 40 records to train on."""
    folder = tmp_path_factory.mktemp("sample")
    generate_sample(folder, train=RECORDS, test=8)
    return folder


def write_shards(records: Path, folder: Path, size: int) -> Path:
    convert(finehard_source(str(records), folder, Report()), folder, ConvertSettings(shard_size=size, workers=1))
    return folder


@pytest.fixture(scope="session")
def shards(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same records in parquet shards of 7, the last one smaller."""
    return write_shards(sample / "train", tmp_path_factory.mktemp("shards") / "train", 7)


@pytest.fixture(scope="session")
def other_shards(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight other records."""
    return write_shards(sample / "test", tmp_path_factory.mktemp("shards") / "other", 4)


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared records go where pytest cleans up, in this process and in those it starts."""
    import datasets

    folder = str(tmp_path_factory.mktemp("datasets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(folder))
        yield
