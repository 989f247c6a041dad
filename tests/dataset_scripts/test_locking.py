from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dataset_scripts.atomic import replacing, write_json
from dataset_scripts.convert.__main__ import main as convert
from dataset_scripts.locking import replacing_folder, writing
from dataset_scripts.sample.__main__ import main as make_sample
from dataset_scripts.shards import ShardFile, damaged_shards, read_manifests
from fgclip.command_line import run_command
from tests.dataset_scripts.held import held


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    expected = pytest.raises(ValueError, match="another command is writing")
    with held(tmp_path / "out") as process, expected as refused, writing(tmp_path / "out"):
        pass
    assert f"process {process.pid} on {socket.gethostname()}" in str(refused.value)
    assert "started 20" in str(refused.value)


def test_a_folder_is_free_after_its_writer_and_after_a_kill(tmp_path: Path) -> None:
    for end in ("close", "kill"):
        with held(tmp_path) as process:
            if end == "kill":
                process.kill()
                process.wait()
        with writing(tmp_path):
            pass
        assert not list(tmp_path.iterdir())


def test_the_holder_may_enter_again_and_another_thread_may_not(tmp_path: Path) -> None:
    refusals: list[str] = []

    def enter() -> None:
        try:
            with writing(tmp_path):
                pass
        except ValueError as error:
            refusals.append(str(error))

    with writing(tmp_path):
        with writing(tmp_path / "." / "x" / ".."):
            pass
        with pytest.raises(RuntimeError), writing(tmp_path):
            raise RuntimeError
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refusals) == 1
    enter()
    assert len(refusals) == 1


def test_half_written_files_of_a_killed_command_go_with_the_next(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "whole.json", {})
    stray = tmp_path / "a" / ".whole.json.123-456.part"
    stray.write_text("{")
    (tmp_path / "data.part").write_text("somebody's own")
    with writing(tmp_path):
        assert not stray.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "data.part", "whole.json"]


def test_a_failed_replacement_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(TypeError), replacing(path) as part:
        part.write_text(2)
    assert path.read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_appears_whole_and_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in "ab":
        with replacing_folder(path) as part:
            part.mkdir()
            (part / content).touch()
    with pytest.raises(FileExistsError), replacing_folder(path) as part:
        [part.mkdir() for _ in range(2)]
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_link_stays_and_the_working_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place)
    make_sample(["--output", str(link), "--train", "1", "--test", "1"])
    assert link.is_symlink()
    assert (place / "sample.json").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", "../here", str(tmp_path / "here")):
        with pytest.raises(ValueError, match="is the working folder"):
            make_sample(["--output", name, "--train", "1", "--test", "1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link", "place"]


def test_a_folder_is_made_by_one_command_at_a_time_and_another_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "new" / "sample"
    arguments = ["--output", str(output), "--train", "1", "--test", "1"]
    for how in ("making", "replacing_folder"):
        with held(output, how) as process:
            with pytest.raises(SystemExit) as end:
                run_command(make_sample, arguments)
            assert end.value.code == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert f"another command is writing to {output}: process {process.pid}" in line
            process.kill()
    make_sample(arguments)
    assert [path.name for path in output.parent.iterdir()] == ["sample"]


@pytest.mark.slow  # two processes that draw, five times
def test_of_two_samples_at_once_one_is_refused_and_the_other_is_whole(tmp_path: Path) -> None:
    for number in range(5):
        output = tmp_path / str(number)
        command = [sys.executable, "-m", "dataset_scripts.sample", "--output", str(output), "--workers", "1"]
        both = [
            subprocess.Popen([*command, "--train", train, "--test", "2"], stderr=subprocess.PIPE, text=True)
            for train in ("20", "30")
        ]
        errors = [process.communicate()[1] for process in both]
        failed = [error for process, error in zip(both, errors, strict=True) if process.returncode]
        assert len(failed) == 1, errors
        # Where one had ended before the other began, the second is told that the folder holds another sample.
        assert "another command is writing" in failed[0] or "asked for" in failed[0]
        settings = json.loads((output / "sample.json").read_text())
        assert len(list((output / "train").rglob("*.jpg"))) == settings["train"]
    assert sorted(path.name for path in tmp_path.iterdir()) == list("01234")


def test_a_shard_that_is_not_closed_leaves_nothing(tmp_path: Path) -> None:
    for shard_format in ("parquet", "webdataset"):
        shard = ShardFile(tmp_path, "train-00000", shard_format)
        with pytest.raises(KeyError):
            shard.add({"image": {}})
        del shard
    assert not list(tmp_path.iterdir())


def test_the_work_folder_of_a_kill_at_the_very_end_is_cleared(sample: Path, tmp_path: Path) -> None:
    output = tmp_path / "shards"
    convert([str(sample / "train"), str(output), "--workers", "2"])
    work = output / ".train-work"
    work.mkdir()
    (work / "finished").touch()
    with pytest.raises(ValueError, match="conversion is finished"):
        convert([str(sample / "train"), str(output)])
    assert not work.exists()


@pytest.mark.slow  # two processes that load their libraries, twenty times
def test_of_two_conversions_at_once_one_is_refused_and_the_other_is_whole(sample: Path, tmp_path: Path) -> None:
    for number in range(20):
        output = tmp_path / str(number)
        command = [sys.executable, "-m", "dataset_scripts.convert", str(sample / "train"), str(output)]
        both = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        errors = [process.communicate()[1] for process in both]
        failed = [
            (process.returncode, error) for process, error in zip(both, errors, strict=True) if process.returncode
        ]
        # Where one had ended before the other began, the second is told that the conversion is finished.
        assert len(failed) == 1, errors
        assert "another command is writing" in failed[0][1] or "is finished" in failed[0][1]
        manifest = read_manifests(output)["train"]
        assert manifest["totals"]["records"] == 40
        assert not damaged_shards(output)
        assert not [path for path in output.iterdir() if path.name.startswith(".")]
        json.dumps(manifest)
