"""Training runs in processes of their own, which may be killed for real.

The processes are forks of one that has imported everything, so that each starts in a moment; none has run torch before.
"""

import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.training.runs", "training.stages", "eval.tasks", "torch._dynamo"])

# What a log line says that is no matter of timing.
TIMED = ("per_second", "share", "runtime", "mfu")


class Killed(TrainerCallback):
    """kill -9 after an optimization step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class Signaled(TrainerCallback):
    """A signal in the middle of an optimization step."""

    def __init__(self, step: int, number: int):
        self.step, self.number = step, number

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)


def _kill_while_writing(step: int) -> None:
    """kill -9 when half of the optimizer's state of that step is on disk."""
    import torch

    save = torch.save

    def torn_save(state: Any, path: Any, *arguments: Any, **settings: Any) -> None:
        save(state, path, *arguments, **settings)
        if f"checkpoint-{step}" in str(path) and str(path).endswith("optimizer.pt"):
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = torn_save


def _train(
    arguments: list[str],
    rank: int,
    processes: int,
    port: int,
    prepare: Callable[[int], list[TrainerCallback] | None] | None,
    said: Path | None,
) -> None:
    if said is not None:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1), os.dup2(file, 2)
    os.environ["OMP_NUM_THREADS"] = "1"
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(processes)}
    # Data workers are forked, as in a run of one's own, and so notice when it is killed.
    multiprocessing.set_start_method("fork", force=True)
    import torch

    from fgclip.command_line import run_command
    from training.arguments import Stage2Arguments
    from training.cli import parse_arguments
    from training.stages import train

    torch.set_num_threads(1)
    callbacks = (prepare(rank) if prepare else None) or []
    run_command(lambda _: train(*parse_arguments(Stage2Arguments, arguments), callbacks))


def start_run(
    arguments: list[str],
    processes: int = 1,
    prepare: Callable[[int], list[TrainerCallback] | None] | None = None,
    said: Path | None = None,
) -> list[multiprocessing.Process]:
    """Trains stage 2 on so many processes, which end as a command does.

    Args:
        prepare: called with the rank in each process before it trains; may return callbacks.
        said: file for what they say; None leaves it in the test's output.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        CONTEXT.Process(target=_train, args=(arguments, rank, processes, port, prepare, said))
        for rank in range(processes)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def exit_codes(ranks: list[multiprocessing.Process], seconds: float = 600) -> list[int | None]:
    """Of processes that must end by themselves; None for one that hangs."""
    for rank in ranks:
        rank.join(seconds)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
        rank.join()
    return codes


@dataclass
class _Death:
    """One rank dies, as a machine would; the launcher then ends the others."""

    victim: int
    step: int = 0
    writing: int = 0

    def __call__(self, rank: int) -> list[TrainerCallback]:
        if self.writing:
            _kill_while_writing(self.writing)
        return [Killed(self.step)] if self.step and rank == self.victim else []


def run(arguments: list[str], processes: int = 1, kill_at: int = 0, kill_writing: int = 0) -> None:
    """Trains stage 2 on so many processes; with a kill, requires that it happened."""
    victim = processes - 1 if kill_at else 0
    killed = bool(kill_at or kill_writing)
    ranks = start_run(arguments, processes, _Death(victim, kill_at, kill_writing) if killed else None)
    ranks[victim].join(600)
    if killed:
        for rank in ranks:
            rank.kill()
    for rank in ranks:
        rank.join(600)
    expected = -signal.SIGKILL if killed else 0
    assert ranks[victim].exitcode == expected, f"exit code {ranks[victim].exitcode}; its output is above"
    assert killed or all(rank.exitcode == 0 for rank in ranks)


def history(output: Path) -> list[dict[str, float]]:
    """The log of a finished run without what depends on the clock."""
    entries = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [
        {name: value for name, value in entry.items() if not name.endswith(TIMED)}
        for entry in entries
        if "loss" in entry
    ]
