"""What a run says about itself between two log lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .arguments import FGCLIPTrainingArguments
from .distributed import sum_over_ranks, world_size
from .planning.devices import find_device

# Counts of which a batch's mean is of interest, beside the rate.
PER_BATCH = ("regions", "hard_negatives")


def peak_flops(args: FGCLIPTrainingArguments) -> float | None:
    """Of one device: as given, or from its maker's data sheet; None where neither is known."""
    if args.peak_tflops:
        return args.peak_tflops * 1e12
    if args.device.type == "cuda":
        device = find_device(torch.cuda.get_device_name(args.device))
        return device.bf16_flops if device else None
    return None


class RunLog:
    """Collects losses and counts of each step and turns them into means, rates and shares over all ranks.

    Args:
        peak_flops: what a device can do at most a second, for the utilisation; None where it is not known.
    """

    def __init__(self, peak_flops: float | None = None) -> None:
        self.peak_flops = peak_flops
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes what is no training (evaluation, saving) out of the rates."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - start

    def add(self, losses: dict[str, torch.Tensor], counts: dict[str, int]) -> None:
        """Adds a batch: its loss and the parts of it (`loss…`), and how many images, texts, FLOPs, … it held."""
        self._steps += 1
        for name, value in losses.items():
            self._accumulate(name, value.detach())
        for name, value in counts.items():
            self._accumulate(name, torch.as_tensor(value, dtype=torch.float64))

    def add_wait(self, seconds: float) -> None:
        """Adds time spent waiting for data."""
        self._accumulate("wait", torch.tensor(seconds, dtype=torch.float64))

    def drain(self) -> dict[str, float]:
        """Everything since the last call. All ranks must call it together.

        Means of the losses; images, real text tokens, regions and hard negatives a second over all ranks; regions
        and hard negatives a batch of all ranks; `data_wait_share`, the part of the time in which a rank waited for its
        next batch; `tflops_per_second`, model FLOPs (training/planning/flops.py) of a device, and `mfu`, their share of its peak.
        """
        if not self._steps:
            return {}
        elapsed = time.perf_counter() - self._since
        names = list(self._sums)
        # Where the ranks can talk about it; in double precision, as tokens and FLOPs of a long window are beyond single.
        device = next((value.device for value in self._sums.values() if value.is_cuda), torch.device("cpu"))
        totals = sum_over_ranks(torch.stack([self._sums[name].to(device, torch.float64) for name in names])).tolist()
        report = {}
        for name, total in zip(names, totals, strict=True):
            if name.startswith("loss"):
                report[name] = total / (self._steps * world_size())
            elif name == "wait":
                report["data_wait_share"] = total / (elapsed * world_size())
            elif name == "flops":
                rate = total / (elapsed * world_size())
                report["tflops_per_second"] = rate / 1e12
                if self.peak_flops:
                    report["mfu"] = rate / self.peak_flops
            else:
                report[f"{name}_per_second"] = total / elapsed
                if name in PER_BATCH:
                    report[f"{name}_per_batch"] = total / self._steps
        self._sums, self._steps, self._since = {}, 0, time.perf_counter()
        return report

    def state_dict(self) -> dict[str, Any]:
        """This rank's part of the window that is not logged yet."""
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"sums": sums, "steps": self._steps, "seconds": time.perf_counter() - self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums, self._steps = dict(state["sums"]), state["steps"]
        self._since = time.perf_counter() - state["seconds"]

    def _accumulate(self, name: str, value: torch.Tensor) -> None:
        self._sums[name] = self._sums[name].to(value.device) + value if name in self._sums else value
