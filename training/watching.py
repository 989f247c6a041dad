"""What all processes must know of each step, in one exchange: whether a loss is not finite, whether to stop."""

from collections.abc import Callable

import torch
import torch.distributed as dist

from .distributed import max_over_ranks, world_size
from .stopping import StopOnSignal


def watch_step(loss: torch.Tensor, stop: StopOnSignal, describe: Callable[[], tuple[bool, str]]) -> None:
    """On all processes, before the backward pass.

    Args:
        loss: () of this process.
        stop: learns of a signal that any process got.
        describe: called where some loss is not finite: whether this process's own data gave numbers that are not
            finite, and what it was doing.

    Raises:
        FloatingPointError: on all processes; it tells of those whose data it was, or of all where that is not known.
    """
    facts = torch.stack([(~torch.isfinite(loss.detach())).float(), loss.new_full((), stop.received).float()])
    not_finite, stop.agreed = (int(value) for value in max_over_ranks(facts).tolist())
    if not not_finite:
        return
    reports = [describe()]
    if world_size() > 1:
        reports = [reports[0]] * world_size()
        dist.all_gather_object(reports, describe())
    culprits = [(rank, report) for rank, (own, report) in enumerate(reports) if own] or [
        (rank, report) for rank, (_, report) in enumerate(reports)
    ]
    where = "; ".join(f"process {rank}: {report}" if len(reports) > 1 else report for rank, report in culprits)
    raise FloatingPointError(
        f"The loss is not finite. {where}. Lower the learning rate, clip gradients (max_grad_norm), or look at these "
        "records."
    )
