"""kill -9, the same command again, and everything later is bit-equal to the run that was never killed."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.runs import history, run

FAST = [("map", 1, 0, 5), ("map", 2, 2, 3), ("stream", 2, 0, 5)]
ALL = [
    (kind, processes, workers, save_steps)
    for kind in ("map", "stream", "mixed", "endless")
    for processes in (1, 2)
    for workers in (0, 2)
    for save_steps in (3, 5)
]


def command(start: Path, output: Path, *arguments: str) -> list[str]:
    """Twelve steps, of which log lines span two, so that some span a checkpoint."""
    options = {
        "model_name_or_path": start,
        "output_dir": output,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "max_steps": 12,
        "logging_steps": 2,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "flip": 0.5,
        "min_crop": 0.8,
    }
    return [*(str(part) for name, value in options.items() for part in (f"--{name}", value)), *arguments]


def cases() -> list:
    return [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in FAST)]


@pytest.mark.parametrize(("kind", "processes", "workers", "save_steps"), cases())
def test_killed_run_continues_as_if_nothing_happened(
    kind, processes, workers, save_steps, start, sample, shards, other_shards, tmp_path
):
    """Checkpoints within an epoch and at its end (5 and 10, streams with workers 6); killed at a step and while writing."""
    data = {
        "map": [str(shards)],
        "stream": [str(shards), "--streaming"],
        "mixed": [str(shards), str(other_shards), "--streaming", "--data_weights", "1", "2"],
        "endless": [str(sample / "train"), "--streaming"],
    }[kind]
    settings = [
        *("--train_data", *data),
        *("--save_steps", str(save_steps), "--dataloader_num_workers", str(workers)),
        # A stream gives each worker batches of its own: six steps an epoch instead of five.
        *("--per_device_train_batch_size", str((6 if workers and kind != "map" else 8) // processes)),
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(command(start, whole, *settings), processes)
    again = command(start, killed, *settings)
    run(again, processes, kill_at=save_steps + 1)
    assert (killed / f"checkpoint-{save_steps}").is_dir()
    last = 12 // save_steps * save_steps
    torn = last if save_steps == 5 else last - save_steps
    run(again, processes, kill_writing=torn)
    assert not (killed / f"checkpoint-{torn}").exists()
    run(again, processes)
    assert history(killed) == history(whole)
    assert len(history(whole)) == 6
    expected = load_file(whole / "model.safetensors")
    for name, value in load_file(killed / "model.safetensors").items():
        assert value.equal(expected[name]), name
    assert sorted(path.name for path in killed.glob("checkpoint-*")) == sorted(
        path.name for path in whole.glob("checkpoint-*")
    )
    assert not (killed / ".unfinished").exists()
