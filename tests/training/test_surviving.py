"""Runs that are stopped, that other processes resume, whose disk is full, or whose folder is taken: on one process and two.

A process that waits for one that has ended fails these tests by its time limit.
"""

import os
import re
import resource
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from dataset_scripts.locking import writing
from tests.training.checkpointing.test_resuming import command
from tests.training.runs import Signaled, exit_codes, history, run, start_run
from training.checkpointing.folders import find_damage
from training.data.pixels import normalized

BOTH = pytest.mark.parametrize("processes", [1, 2])


def settings(shards: Path, batch: int, *arguments: str) -> list[str]:
    return ["--train_data", str(shards), "--per_device_train_batch_size", str(batch), *arguments]


def outcome(arguments: list[str], processes: int, folder: Path, prepare=None) -> tuple[list[int | None], str]:
    """Exit codes, and what all processes said."""
    said = folder / "said"
    said.unlink(missing_ok=True)
    codes = exit_codes(start_run(arguments, processes, prepare, said))
    text = said.read_text()
    print(text)
    return codes, text


@dataclass
class SignalOnLast:
    """Only one of the processes is told."""

    number: int
    step: int
    processes: int

    def __call__(self, rank: int) -> list[TrainerCallback]:
        return [Signaled(self.step, self.number)] if rank == self.processes - 1 else []


@pytest.mark.parametrize(
    ("number", "code", "processes", "kind"),
    [
        (signal.SIGTERM, 143, 1, "map"),
        (signal.SIGTERM, 143, 2, "stream"),
        (signal.SIGINT, 130, 1, "stream"),
        (signal.SIGINT, 130, 2, "map"),
    ],
)
def test_a_signal_ends_the_step_saves_and_the_same_command_goes_on(
    number, code, processes, kind, start, shards, tmp_path
):
    data = settings(shards, 8 // processes, "--save_strategy", "no", *(["--streaming"] if kind == "stream" else []))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(command(start, whole, *data), processes)
    again = command(start, stopped, *data)
    codes, said = outcome(again, processes, tmp_path, SignalOnLast(number, 5, processes))
    assert codes == [code] * processes
    assert said.count("Stopped by") == 1
    assert f"Stopped by {number.name} after step 5; saved {stopped / 'checkpoint-5'}: give the same command" in said
    assert not (stopped / "model.safetensors").exists()
    run(again, processes)
    assert history(stopped) == history(whole)
    expected = load_file(whole / "model.safetensors")
    for name, value in load_file(stopped / "model.safetensors").items():
        assert value.equal(expected[name]), name


@dataclass
class Waits:
    """In a process group of its own, which is told in the midst of a step: files tell of the step and of the signal."""

    ready: Path
    told: Path

    def __call__(self, rank: int) -> list[TrainerCallback]:
        os.setpgid(0, 0)
        return [_Wait(self)]


class _Wait(TrainerCallback):
    def __init__(self, files: Waits):
        self.files = files

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == 2:
            self.files.ready.touch()
            while not self.files.told.exists():
                time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_data_workers_outlive_a_signal_to_the_whole_group(number, start, shards, tmp_path):
    """As a terminal and a scheduler send it."""
    workers = ["--dataloader_num_workers", "2", "--save_strategy", "no"]
    arguments = command(start, tmp_path / "run", *settings(shards, 4, *workers))
    (process,) = start_run(arguments, 1, Waits(tmp_path / "ready", tmp_path / "told"))
    while process.is_alive() and not (tmp_path / "ready").exists():
        time.sleep(0.05)
    os.killpg(process.pid, number)
    (tmp_path / "told").touch()
    assert exit_codes([process]) == [128 + number]
    assert find_damage(tmp_path / "run" / "checkpoint-3") is None
    run(arguments)


@dataclass
class SignalTwice:
    def __call__(self, rank: int) -> list[TrainerCallback]:
        import training.stopping

        training.stopping.SAME_ORDER_SECONDS = -1.0
        return [Signaled(2, signal.SIGTERM), Signaled(2, signal.SIGTERM)]


def test_a_second_signal_stops_at_once(start, shards, tmp_path):
    arguments = command(start, tmp_path, *settings(shards, 8))
    assert exit_codes(start_run(arguments, 1, SignalTwice())) == [143]
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_other_processes_resume_records(before, after, start, shards, tmp_path):
    """The global batch stays, so the run is the same to rounding; the checkpoint lies between two log lines."""
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    run(command(start, whole, *settings(shards, 8 // before)), before)
    first = command(start, changed, *settings(shards, 8 // before, "--save_strategy", "no"))
    assert exit_codes(start_run(first, before, SignalOnLast(signal.SIGTERM, 5, before))) == [143] * before
    codes, said = outcome(command(start, changed, *settings(shards, 8 // after)), after, tmp_path)
    assert codes == [0] * after
    assert f"was saved by {before} processes, this run has {after}" in said
    expected, found = history(whole), history(changed)
    for one, other in zip(expected[3:], found[3:], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_other_processes_cannot_resume_a_stream(before, after, start, shards, tmp_path):
    first = command(start, tmp_path, *settings(shards, 8 // before, "--streaming"))
    assert exit_codes(start_run(first, before, SignalOnLast(signal.SIGTERM, 2, before))) == [143] * before
    codes, said = outcome(command(start, tmp_path, *settings(shards, 8 // after, "--streaming")), after, tmp_path)
    assert codes == [2] * after
    assert f"was saved by {before} processes" in said


@BOTH
def test_a_checkpoint_that_is_not_there_is_refused_on_all_processes(processes, start, shards, tmp_path):
    arguments = settings(shards, 4, "--resume_from_checkpoint", str(tmp_path / "none"))
    codes, said = outcome(command(start, tmp_path / "run", *arguments), processes, tmp_path)
    assert codes == [2] * processes
    assert "there is no such folder" in said


@BOTH
def test_a_folder_in_use_is_refused_on_all_processes(processes, start, shards, tmp_path):
    with writing(tmp_path / "run"):
        codes, said = outcome(command(start, tmp_path / "run", *settings(shards, 4)), processes, tmp_path)
    assert codes == [2] * processes
    assert "another command is writing to" in said
    assert "Traceback" not in said


@BOTH
def test_a_folder_that_cannot_be_written_is_refused_on_all_processes(processes, start, shards, tmp_path):
    """Below a file no folder can be made, whoever asks."""
    (tmp_path / "file").write_text("")
    codes, said = outcome(command(start, tmp_path / "file" / "run", *settings(shards, 4)), processes, tmp_path)
    assert codes == [2] * processes
    assert "cannot be written" in said
    assert "Traceback" not in said


@dataclass
class SpoilFirst:
    """Calls a function in the first process at the end of a step."""

    step: int
    spoil: object

    def __call__(self, rank: int) -> list[TrainerCallback]:
        return [_Spoil(self.step, self.spoil)] if rank == 0 else []


class _Spoil(TrainerCallback):
    def __init__(self, step, spoil):
        self.step, self.spoil = step, spoil

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            self.spoil(Path(args.output_dir))


def full_disk(output: Path) -> None:
    """No file may grow beyond 100 kB: writing fails in the midst of the weights, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def read_only(output: Path) -> None:
    """What is in the way of the new checkpoint cannot be replaced."""
    (output / ".unfinished").write_text("")


def vanished(output: Path) -> None:
    shutil.move(output, output.with_name("elsewhere"))


@BOTH
@pytest.mark.parametrize(
    ("spoil", "left", "message"),
    [
        (full_disk, "run", "checkpoint-4 could not be written: .*Whole are: checkpoint-2"),
        (read_only, "run", "checkpoint-4 could not be written: .*Whole are: checkpoint-2"),
        (vanished, "elsewhere", "is not there any more"),
    ],
)
def test_a_checkpoint_that_cannot_be_written(spoil, left, message, processes, start, shards, tmp_path):
    arguments = command(start, tmp_path / "run", *settings(shards, 8 // processes, "--save_steps", "2"))
    codes, said = outcome(arguments, processes, tmp_path, SpoilFirst(4, spoil))
    assert codes == [2] * processes
    assert "Traceback" not in said
    assert len(re.findall(f"error: .*{message}", said, re.MULTILINE)) == processes
    assert find_damage(tmp_path / left / "checkpoint-2") is None
    assert not (tmp_path / left / "checkpoint-4").exists()
    if left == "elsewhere":
        assert not (tmp_path / "run").exists()


class _BrokenPicture:
    """A collator whose second picture of each batch holds a NaN."""

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, records):
        batch = self.collator(records)
        batch["pixel_values"] = normalized(batch)
        batch["pixel_values"][1, 0, 0, 0] = float("nan")
        print("broken:", batch["source_ids"][1], flush=True)
        return batch


@dataclass
class BreakLast:
    last: int

    def __call__(self, rank: int) -> None:
        if rank == self.last:
            import training.stages

            made = training.stages.FGCLIPCollator
            training.stages.FGCLIPCollator = lambda *args, **kwargs: _BrokenPicture(made(*args, **kwargs))


@pytest.mark.parametrize(("processes", "caching"), [(1, False), (2, False), (2, True)])
def test_every_process_names_the_records_that_are_not_finite(processes, caching, start, shards, tmp_path):
    extra = ["--gradient_caching", "True", "--gradient_accumulation_steps", "2"] if caching else []
    arguments = command(start, tmp_path, *settings(shards, 4, *extra))
    codes, said = outcome(arguments, processes, tmp_path, BreakLast(processes - 1))
    assert codes == [2] * processes
    broken = re.findall("broken: (.*)", said)
    errors = re.findall("error: The loss is not finite.*", said)
    assert len(errors) == processes
    for line in errors:
        assert f"not finite: {broken[: 2 if caching else 1]}. Lower" in line
        assert ("process 1:" in line) == (processes == 2)
        assert "process 0:" not in line


def test_a_batch_of_one_image_is_warned_of(tiny_model, processor, tmp_path, caplog):
    from tests.training.test_trainer import make_trainer
    from training.arguments import Stage1Arguments

    for batch, caching, warned in ((1, False, True), (2, False, False), (1, True, False)):
        caplog.clear()
        settings = {"gradient_caching": caching, "gradient_accumulation_steps": 2}
        make_trainer(Stage1Arguments, tiny_model, processor, tmp_path, per_device_train_batch_size=batch, **settings)
        assert ("trains nothing" in caplog.text) == warned, (batch, caching)
    assert torch.isfinite(tiny_model.visual_projection.weight).all()
