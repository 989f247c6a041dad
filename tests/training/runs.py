"""Training runs in processes of their own, which may be killed for real.

The processes are forks of one that has imported everything, so that each starts in a moment; none has run torch before.
"""

import json
import multiprocessing
import os
import signal
import socket
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


def _train(arguments: list[str], rank: int, processes: int, port: int, kill_at: int, kill_writing: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(processes)}
    # Data workers are forked, as in a run of one's own, and so notice when it is killed.
    multiprocessing.set_start_method("fork", force=True)
    import torch

    from training.arguments import Stage2Arguments
    from training.cli import parse_arguments
    from training.stages import train

    torch.set_num_threads(1)
    if kill_writing:
        _kill_while_writing(kill_writing)
    # One rank dies, as a machine would; the launcher then ends the others.
    callbacks = [Killed(kill_at)] if kill_at and rank == processes - 1 else []
    train(*parse_arguments(Stage2Arguments, arguments), callbacks)


def run(arguments: list[str], processes: int = 1, kill_at: int = 0, kill_writing: int = 0) -> None:
    """Trains stage 2 on so many processes; with a kill, requires that it happened."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        CONTEXT.Process(target=_train, args=(arguments, rank, processes, port, kill_at, kill_writing))
        for rank in range(processes)
    ]
    for rank in ranks:
        rank.start()
    killed = bool(kill_at or kill_writing)
    victim = ranks[-1] if kill_at else ranks[0]
    victim.join(300)
    if killed:
        for rank in ranks:
            rank.kill()
    for rank in ranks:
        rank.join(300)
    expected = -signal.SIGKILL if killed else 0
    assert victim.exitcode == expected, f"exit code {victim.exitcode}; its output is above"
    assert killed or all(rank.exitcode == 0 for rank in ranks)


def history(output: Path) -> list[dict[str, float]]:
    """The log of a finished run without what depends on the clock."""
    entries = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [
        {name: value for name, value in entry.items() if not name.endswith(TIMED)}
        for entry in entries
        if "loss" in entry
    ]
