"""What a run says about itself between two log lines."""

import time

import torch

from .distributed import sum_over_ranks, world_size


class RunLog:
    """Collects loss parts and counts of each step and turns them into means and rates over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._since = time.perf_counter()

    def restart_clock(self) -> None:
        """Starts the time over, after something that was no training (evaluation, saving)."""
        self._since = time.perf_counter()

    def add(self, losses: dict[str, torch.Tensor], counts: dict[str, int]) -> None:
        """Adds a batch: the parts of its loss, and how many images, texts, … it held."""
        self._steps += 1
        for name, value in losses.items():
            self._accumulate(f"loss_{name}", value.detach())
        for name, value in counts.items():
            self._accumulate(name, torch.tensor(float(value)))

    def drain(self) -> dict[str, float]:
        """Means of the loss parts, and counts a second, since the last call. All ranks must call it together."""
        if not self._steps:
            return {}
        elapsed = time.perf_counter() - self._since
        names = list(self._sums)
        device = self._sums[names[0]].device
        totals = sum_over_ranks(torch.stack([self._sums[name].to(device) for name in names])).tolist()
        report = {}
        for name, total in zip(names, totals, strict=True):
            if name.startswith("loss_"):
                report[name] = total / (self._steps * world_size())
            else:
                report[f"{name}_per_second"] = total / elapsed
        self._sums, self._steps, self._since = {}, 0, time.perf_counter()
        return report

    def _accumulate(self, name: str, value: torch.Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value
