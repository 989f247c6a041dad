"""Runs of LLaVA's second stage in processes of their own."""

import os
import socket

from tests.training.runs import CONTEXT, exit_codes


def _finetune(arguments: list[str], rank: int, processes: int, port: int, signal_at: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(processes)}
    import torch

    from fgclip.command_line import run_command
    from training.llava import trainer
    from training.llava.finetune import main

    torch.set_num_threads(1)
    if signal_at:
        from tests.training.runs import Signaled

        build = trainer.LlavaTrainer.__init__

        def signaled(self, *positional, **named) -> None:
            build(self, *positional, **named)
            if rank == 0:
                self.add_callback(Signaled(signal_at, 15))

        trainer.LlavaTrainer.__init__ = signaled
    run_command(main, arguments)


def finetune(arguments: list[str], processes: int = 1, signal_at: int = 0) -> list[int | None]:
    """Exit codes of so many processes; the first one gets SIGTERM in the middle of a step, if asked for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        CONTEXT.Process(target=_finetune, args=(arguments, rank, processes, port, signal_at))
        for rank in range(processes)
    ]
    for rank in ranks:
        rank.start()
    return exit_codes(ranks, 300)
