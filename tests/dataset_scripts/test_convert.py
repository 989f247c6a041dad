from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.convert.__main__ import main
from dataset_scripts.download import DownloadSettings
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.shards import damaged_shards
from tests.dataset_scripts.image_server import publish_urls, serving

PREFIX = "grit-20m/data-12m/"


def _published(root: Path) -> list[dict]:
    return [record for path in sorted(root.glob("jsonfiles/*.json")) for record in json.loads(path.read_text())]


def _run(root: Path, output: Path, retry: bool = False, download: DownloadSettings | None = None, **options) -> dict:
    settings = ConvertSettings(**{"shard_size": 15, "workers": 4, **options})
    source = finehard_source(str(root), output / f".{settings.split}-work" / "source", Report(), download=download)
    return convert(source, output, settings, retry)


def _shards(output: Path) -> dict[str, str]:
    files = (path for path in output.iterdir() if path.suffix in (".parquet", ".tar"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(output: Path) -> list[dict]:
    return [row for path in sorted(output.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_shards_hold_every_record_once_shuffled_and_of_even_size(layout: Path, tmp_path: Path) -> None:
    manifest = _run(layout, tmp_path / "out")
    assert [shard["records"] for shard in manifest["shards"]] == [15, 15, 10]
    rows = _rows(tmp_path / "out")
    published = {record["f_path"].removeprefix(PREFIX): record for record in _published(layout)}
    assert sorted(row["source_id"] for row in rows) == sorted(published)
    assert [row["source_id"] for row in rows] != list(published)
    for row in rows:
        record = published[row["source_id"]]
        assert row["image"]["bytes"] == (layout / "images" / row["source_id"]).read_bytes()
        assert row["caption"] == record["caption"]
        assert [region["short_expr"] for region in row["regions"]] == [i["short_expr"] for i in record["bbox_info"]]
    assert manifest["totals"]["regions"] == sum(len(record["bbox_info"]) for record in published.values())
    infos = [info for record in published.values() for info in record["bbox_info"]]
    assert manifest["totals"]["negatives"] == sum(len(info.get("short_expr_negs", ())) for info in infos)
    assert not damaged_shards(tmp_path / "out")
    assert not (tmp_path / "out" / ".train-work").exists()
    streamed = load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert streamed.features == FEATURES
    assert len(list(streamed)) == 40


def test_the_order_depends_on_the_seed_and_not_on_files_or_threads(layout: Path, tmp_path: Path) -> None:
    _run(layout, tmp_path / "a", workers=1)
    first, second = layout / "jsonfiles" / "part-0.json", layout / "jsonfiles" / "part-3.json"
    one, other = first.read_text(), second.read_text()
    first.write_text(other)
    second.write_text(one)
    _run(layout, tmp_path / "b", workers=7)
    _run(layout, tmp_path / "c", seed=1)
    assert _shards(tmp_path / "a") == _shards(tmp_path / "b")
    assert [r["source_id"] for r in _rows(tmp_path / "a")] != [r["source_id"] for r in _rows(tmp_path / "c")]


def test_webdataset_shards_hold_the_same(layout: Path, tmp_path: Path) -> None:
    _run(layout, tmp_path / "a")
    _run(layout, tmp_path / "b", shard_format="webdataset")
    streamed = load_dataset("webdataset", data_files=str(tmp_path / "b" / "*.tar"), split="train", streaming=True)
    for row, example in zip(_rows(tmp_path / "a"), streamed, strict=True):
        assert example["jpg"].size == (64, 64)
        assert example["json"]["source_id"] == row["source_id"]
        assert example["json"]["regions"][0]["negatives"] == row["regions"][0]["negatives"]


def test_faults_copies_and_missing_images_are_counted_and_listed(layout: Path, tmp_path: Path, capsys) -> None:
    records = _published(layout)
    (layout / "images" / records[0]["f_path"].removeprefix(PREFIX)).unlink()
    (layout / "images" / records[1]["f_path"].removeprefix(PREFIX)).write_bytes(b"<html>")
    records[3]["f_path"] = "../../secret.jpg"
    records[4]["bbox_info"][0]["bbox"] = [0.5, 0.5, 0.1, 0.1, 1.0]
    (layout / "jsonfiles" / "part-0.json").write_text(json.dumps(records[:10] + records[20:23]))
    main([str(layout), str(tmp_path / "out"), "--shard-size", "100"])
    manifest = json.loads((tmp_path / "out" / "train-manifest.json").read_text())
    assert manifest["annotations"]["problems"] == {"path leaves its root": 1, "box is inverted or empty": 1}
    reasons = {"image file is missing": 1, "HTML or XML instead of an image": 1, "record is repeated": 3}
    assert manifest["images"]["problems"] == reasons
    assert manifest["totals"]["records"] == 37
    listed = [json.loads(line) for line in (tmp_path / "out" / "train-left_out.jsonl").read_text().splitlines()]
    assert {entry["draft"]["source_id"] for entry in listed} == {r["f_path"].removeprefix(PREFIX) for r in records[:2]}
    printed = capsys.readouterr().out
    assert "37 of 42 records" in printed
    assert "image file is missing" in printed
    with pytest.raises(ValueError, match=r"path leaves its root in part-0\.json"):
        _run(layout, tmp_path / "strict", on_bad="raise", shard_size=100)


def test_a_damaged_shard_is_noticed(layout: Path, tmp_path: Path) -> None:
    _run(layout, tmp_path / "out")
    path = tmp_path / "out" / "train-00001.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    (tmp_path / "out" / "train-00002.parquet").unlink()
    assert damaged_shards(tmp_path / "out") == ["train-00001.parquet", "train-00002.parquet"]


def test_settings_may_not_change_under_way(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dataset_scripts.convert.pipeline.write_manifest", stop)
        with pytest.raises(KeyboardInterrupt):
            _run(layout, tmp_path / "out")
    with pytest.raises(ValueError, match="other seed"):
        _run(layout, tmp_path / "out", seed=3)
    _run(layout, tmp_path / "out")
    with pytest.raises(ValueError, match="finished"):
        _run(layout, tmp_path / "out")


# --- download ---------------------------------------------------------------------------------------------------------


LIMITS = DownloadSettings(timeout=60, retries=1, backoff=0.01, max_bytes=1_000_000, private_hosts=True)


def test_images_are_downloaded_and_joined_while_they_are_written(layout: Path, tmp_path: Path) -> None:
    _run(layout, tmp_path / "local")
    kinds = {3: "gone", 5: "html", 7: "cut", 8: "huge", 9: "flaky", 11: "moved"}
    with serving(tmp_path / "pictures") as server:
        paths = publish_urls(layout, server, lambda number: kinds.get(number, "ok"))
        manifest = _run(layout, tmp_path / "out", download=LIMITS)
        assert manifest["images"]["problems"] == {
            "HTTP 404": 1,
            "HTML or XML instead of an image": 1,
            "connection failed": 1,
            "download is too large": 1,
        }
        lost = {paths[number] for number in (3, 5, 7, 8)}
        expected = [row for row in _rows(tmp_path / "local") if row["source_id"] not in lost]
        assert _rows(tmp_path / "out") == expected
        assert [shard["records"] for shard in manifest["shards"]] == [15, 15, 6]
        # Later the server is well: only what was left out is asked for again, and appended.
        asked = dict(server.asked)
        index = layout / "url2key_jsons" / "url2key_coyo_image_0.json"
        index.write_text(index.read_text().replace("/gone/", "/ok/").replace("/cut/", "/ok/"))
        manifest = _run(layout, tmp_path / "out", download=LIMITS, retry=True)
        assert manifest["totals"]["records"] == 38
        assert [shard["records"] for shard in manifest["shards"]] == [15, 15, 6, 2]
        assert manifest["images"]["problems"] == {"HTML or XML instead of an image": 1, "download is too large": 1}
        assert manifest["images"]["kept"]["records kept"] == 38
        assert sorted(row["source_id"] for row in _rows(tmp_path / "out")) == sorted(set(paths) - {paths[5], paths[8]})
        again = {path for path, count in server.asked.items() if count > asked.get(path, 0)}
        assert len(again) == 4


def test_what_img2dataset_left_is_taken_without_download(layout: Path, tmp_path: Path) -> None:
    """Its numbering has nothing to do with ours; half of it lies in a folder, half in a tar."""
    _run(layout, tmp_path / "local")
    with serving(tmp_path / "pictures") as server:
        paths = publish_urls(layout, server, lambda number: "ok")
        found = tmp_path / "img2dataset"
        (found / "00000").mkdir(parents=True)
        rows: list[list[dict]] = [[], []]
        with tarfile.open(found / "00001.tar", "w") as tar:
            for number, path in enumerate(reversed(paths)):
                key, half = f"{number:09d}", number % 2
                status = "failed_to_download" if number < 2 else "success"
                rows[half].append({"url": f"{server.url}/ok/{path}", "key": key, "status": status})
                if status != "success":
                    continue
                if half:
                    tar.add(server.root / path, f"{key}.jpg")
                else:
                    (found / "00000" / f"{key}.jpg").write_bytes((server.root / path).read_bytes())
        for half in (0, 1):
            pq.write_table(pa.Table.from_pylist(rows[half]), found / f"0000{half}.parquet")
        arguments = [str(layout), str(tmp_path / "out"), "--img2dataset", str(found), "--shard-size", "15"]
        main([*arguments, "--download", "--private-hosts"])
        assert sum(server.asked.values()) == 2  # what img2dataset had failed to fetch
    assert _shards(tmp_path / "out") == _shards(tmp_path / "local")


def test_damaged_output_of_img2dataset_and_cut_lists_of_urls_are_counted(layout: Path, tmp_path: Path) -> None:
    """img2dataset was killed while it wrote a tar and a sidecar; a list of URLs came only in part."""
    with serving(tmp_path / "pictures") as server:
        paths = publish_urls(layout, server, lambda number: "ok")
        found = tmp_path / "img2dataset"
        found.mkdir()
        for part in range(3):
            rows = []
            with tarfile.open(found / f"{part:05d}.tar", "w") as tar:
                for number, path in enumerate(paths[part::3]):
                    rows.append({"url": f"{server.url}/ok/{path}", "key": f"{number:09d}", "status": "success"})
                    tar.add(server.root / path, f"{number:09d}.jpg")
                cut = tar.getmembers()[5].offset + 30
            pq.write_table(pa.Table.from_pylist(rows), found / f"{part:05d}.parquet")
        with tarfile.open(found / "00001.tar") as tar:
            cut = tar.getmembers()[5].offset + 30
        for name, size in (("00001.tar", cut), ("00002.parquet", 200)):
            (found / name).write_bytes((found / name).read_bytes()[:size])
        lists = layout / "coyo_image_0" / "00000.parquet"
        lists.parent.mkdir(exist_ok=True)
        lists.write_bytes(b"PAR1 cut")
        report = Report()
        source = finehard_source(str(layout), tmp_path / "work", report, img2dataset=[str(found)])
        assert report.problems == {
            "tar is cut or damaged": 1,
            "sidecar is cut or damaged": 1,
            "list of URLs is cut or damaged": 1,
        }
        manifest = convert(source, tmp_path / "out", ConvertSettings(workers=2))
        expected = {*paths[0::3], *paths[1::3][:5]}
        assert {row["source_id"] for row in _rows(tmp_path / "out")} == expected
        assert manifest["images"]["problems"] == {"image is not among those of img2dataset": 40 - len(expected)}
        for file, reason in ((lists, "PAR1|magic"), (found / "00001.tar", "tar is cut or damaged")):
            with pytest.raises(ValueError, match=reason):
                finehard_source(str(layout), tmp_path / f"raise-{file.stem}", Report("raise"), None, [str(found)])
            file.unlink()


def test_kill_and_resume_lose_and_repeat_nothing(layout: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "pictures", delay=0.2) as server:
        paths = publish_urls(layout, server, lambda number: "gone" if number % 10 == 0 else "ok")
        base = [sys.executable, "-m", "dataset_scripts.convert", str(layout)]
        options = ["--download", "--private-hosts", "--shard-size", "6", "--workers", "2", "--retries", "0"]
        subprocess.run([*base, str(tmp_path / "whole"), *options], check=True, capture_output=True)
        server.asked.clear()
        output = tmp_path / "killed"
        for shards_wanted in (1, 3):  # killed twice, each time in the middle of a later shard
            process = subprocess.Popen(
                [*base, str(output), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 300
            while len(list(output.glob("train-*.parquet"))) < shards_wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.08)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert not (output / "train-manifest.json").exists()
        subprocess.run([*base, str(output), *options], check=True, capture_output=True)
        assert _shards(output) == _shards(tmp_path / "whole")
        for name in ("train-manifest.json", "train-left_out.jsonl"):
            assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert {row["source_id"] for row in _rows(output)} == {p for n, p in enumerate(paths) if n % 10}
        # A fetched image is kept until its shard is complete; only what was under way is fetched again.
        repeated = sum(count - 1 for path, count in server.asked.items() if path.startswith("/ok/"))
        assert repeated <= 2 * 2
