from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from dataset_scripts import upload
from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.publish import main
from dataset_scripts.report import Report
from dataset_scripts.upload import publish
from tests.hub_stand_in import HubStandIn, hub_stand_in

REPO = "someone/fine"
READ_BACK = """
import json, sys
from datasets import load_dataset
from dataset_scripts.streaming import load_training_data
found = {}
for split in sys.argv[2].split(","):
    records = list(load_dataset(sys.argv[1], split=split, streaming=True))
    found[split] = [(r.get("json") or r)["source_id"] for r in records]
    picture = records[0].get("jpg") or records[0]["image"]
    assert picture.size == (64, 64), picture
    regions = (records[0].get("json") or records[0])["regions"]
    assert len(regions[0]["bbox"]) == 4 and len(regions[0]["negatives"]) == 10, regions
stream = load_training_data(sys.argv[1], streaming=True, split=sys.argv[2].split(",")[0])
found["training"] = [record["source_id"] for record in stream]
from dataset_scripts.finehard import FineHARD
reader = FineHARD(root="hf://datasets/someone/layout")
found["layout"] = [record["source_id"] for record in reader.as_streaming_dataset(split="train")]
print(json.dumps(found))
"""


def _write(sample: Path, output: Path, splits: tuple[str, ...] = ("train",), **settings) -> list[str]:
    """Converts splits of the sample; gives the names of their records in order."""
    names: list[str] = []
    for split in splits:
        source = finehard_source(str(sample / split), output, Report())
        convert(source, output, ConvertSettings(**{"split": split, "shard_size": 15, "workers": 2, **settings}))
    return names


def _read_back(hub: HubStandIn, cache: Path, splits: str) -> dict[str, list[str]]:
    command = [sys.executable, "-c", READ_BACK, REPO, splits]
    done = subprocess.run(command, env=hub.environment(cache), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def without_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_what_is_published_streams_back_with_no_code_of_ours(
    sample: Path, tmp_path: Path, without_xet: None, kind: str
) -> None:
    _write(sample, tmp_path / "out", ("train", "test"), shard_format=kind)
    with hub_stand_in() as hub:
        uploaded = publish(tmp_path / "out", REPO, "cc-by-4.0", api=HfApi(hub.endpoint, token="hf_x"))
        assert len(uploaded) == 4
        assert hub.repositories["datasets", REPO].private is True
        # The published layout itself, of which nothing is downloaded whole.
        hub.add("someone/layout", sample / "test", "datasets")
        found = _read_back(hub, tmp_path / "home", "train,test")
        card = hub.files(REPO, "datasets")["README.md"].decode()
    published = {
        split: sorted(r["f_path"].removeprefix("grit-20m/data-12m/") for r in json.loads(path.read_text()))
        for split in ("train", "test")
        for path in (sample / split / "jsonfiles").glob("*.json")
    }
    assert {split: sorted(found[split]) for split in published} == published
    assert sorted(found["training"]) == published["train"]
    assert sorted(found["layout"]) == published["test"]
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "cc-by-4.0"
    assert [split["num_examples"] for split in metadata["dataset_info"]["splits"]] == [12, 40]
    assert "| train | 40 | " in card
    assert str(tmp_path) not in card


def test_an_interrupted_upload_sends_the_rest_only(
    sample: Path, tmp_path: Path, without_xet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_FILES_A_COMMIT", 1)
    _write(sample, tmp_path / "out", shard_size=8)
    with hub_stand_in() as hub:
        api = HfApi(hub.endpoint, token="hf_x")
        hub.fail_after = 2
        with pytest.raises(ValueError, match=r"train-00002.*the same command goes on"):
            publish(tmp_path / "out", REPO, api=api)
        assert len(hub.files(REPO, "datasets")) == 2
        hub.fail_after = None
        assert len(publish(tmp_path / "out", REPO, api=api)) == 3
        assert publish(tmp_path / "out", REPO, api=api) == []
        shards = {path for path in hub.files(REPO, "datasets") if path.endswith(".parquet")}
        assert len(shards) == 5
        assert len(hub.uploads) == len(set(hub.uploads)) == 5 + 1  # the preview is a large file too
        # A later version with fewer shards leaves none of the old ones behind.
        _write(sample, tmp_path / "new", shard_size=20)
        publish(tmp_path / "new", REPO, api=api)
        assert {path for path in hub.files(REPO, "datasets") if path.endswith(".parquet")} == {
            "data/train-00000.parquet",
            "data/train-00001.parquet",
        }


def test_damaged_or_foreign_folders_are_not_published(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="manifest"):
        publish(sample, REPO)
    _write(sample, tmp_path / "out")
    path = tmp_path / "out" / "train-00000.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"train-00000\.parquet"):
        publish(tmp_path / "out", REPO)


def test_a_dry_run_shows_the_card(sample: Path, tmp_path: Path, capsys) -> None:
    _write(sample, tmp_path / "out")
    main([str(tmp_path / "out"), REPO, "--dry-run", "--license", "mit"])
    printed = capsys.readouterr().out
    assert "license: mit" in printed
    assert "3 shards would be uploaded" in printed
    with pytest.raises(ValueError, match="manifest"):
        main([str(tmp_path), REPO, "--dry-run"])


def test_splits_of_two_formats_are_refused(sample: Path, tmp_path: Path) -> None:
    _write(sample, tmp_path / "out")
    _write(sample, tmp_path / "out", ("test",), shard_format="webdataset")
    with pytest.raises(ValueError, match="different formats"):
        main([str(tmp_path / "out"), REPO, "--dry-run"])
