"""Runs of stage 2 on a GPU as a user starts them: the CPU's losses, whatever saves memory or time; and it goes on after a stop."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.checkpointing.test_resuming import command
from tests.training.runs import history

ROOT = Path(__file__).parents[2]
LOSSES = ("loss", "loss_global", "loss_regional", "loss_hard")
SETTINGS = {
    "plain": [],
    "float32": ["--bf16", "False"],
    "gradient caching": ["--gradient_caching", "True", "--gradient_accumulation_steps", "2"],
    "optimizer in backward": ["--optimizer_in_backward", "True", "--max_grad_norm", "0"],
    "checkpointing": ["--gradient_checkpointing", "True"],
    "selective checkpointing": ["--selective_activation_checkpointing", "True"],
    "LoRA": ["--lora_rank", "4"],
    "compiled": ["--torch_compile", "True"],
    "workers": ["--dataloader_num_workers", "2"],
}


def launch(device: str, arguments: list[str], config: str = "single_gpu.yaml") -> str:
    program = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    program += [
        "--config_file",
        f"training/configs/{config}",
        "--num_processes",
        "1",
        "training/stage2.py",
        *arguments,
    ]
    program += ["--use_cpu", str(device == "cpu")]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def settings_of(shards: Path, *extra: str) -> list[str]:
    return [
        "--train_data",
        str(shards),
        "--per_device_train_batch_size",
        "8",
        "--max_steps",
        "4",
        "--bf16",
        "True",
        *extra,
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_are_the_cpus(name, start, shards, tmp_path, device):
    arguments = settings_of(shards, *SETTINGS[name])
    launch("cpu", [*command(start, tmp_path / "cpu"), *arguments, "--bf16", "False", "--torch_compile", "False"])
    launch(device, [*command(start, tmp_path / "gpu"), *arguments])
    for one, other in zip(history(tmp_path / "gpu"), history(tmp_path / "cpu"), strict=True):
        for loss in LOSSES:
            assert one[loss] == pytest.approx(other[loss], rel=3e-2), loss


def test_one_process_of_fsdp2(start, shards, tmp_path, device):
    if device == "cpu":
        pytest.skip("its configuration is one for GPUs")
    arguments = settings_of(shards)
    launch("cpu", [*command(start, tmp_path / "cpu"), *arguments, "--bf16", "False"])
    launch(device, [*command(start, tmp_path / "gpu"), *arguments], "fsdp2.yaml")
    for one, other in zip(history(tmp_path / "gpu"), history(tmp_path / "cpu"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=3e-2)


def test_a_run_goes_on(start, shards, tmp_path, device):
    arguments = [*command(start, tmp_path / "whole"), *settings_of(shards, "--save_steps", "2")]
    launch(device, arguments)
    whole = history(tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole" / "checkpoint-4")
    assert "checkpoint-2" in launch(device, arguments)
    for one, other in zip(history(tmp_path / "whole"), whole, strict=True):
        for loss in LOSSES:
            assert one[loss] == pytest.approx(other[loss], rel=1e-3), loss
