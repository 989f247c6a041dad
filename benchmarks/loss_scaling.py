"""Time and memory of the global loss, forward and backward, by batch size: all similarities at once against chunks.

python -m benchmarks.loss_scaling --sizes 1024 4096 16384 65536

The loss is L_global of one process that holds the whole batch: four products of (batch, D) by (D, batch). Each point runs
on its own, on a CPU in a process of its own; seconds are CPU time (wall time on CUDA); memory is what it takes beyond the
embeddings and their gradients. What would not fit into the machine's free memory is left out and said so.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.measure import median, peak_memory, run_fresh, save, table, timed
from training.losses.contrastive import MAX_LOGITS, contrastive_loss

WAYS = {"plain": 1 << 62, "chunked": MAX_LOGITS}
# Float32 matrices of (batch, batch) that the plain loss holds at its peak: in each of two losses and two directions the
# logits are kept for the backward pass, and forming a gradient takes two more.
PLAIN_MATRICES = 6
# On a CPU timed once, without a warm-up, from here on.
LARGE = 16384


def run_point(way: str, size: int, width: int, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    image, long_text, short_text = (
        F.normalize(torch.randn(size, width, device=device), dim=-1).requires_grad_() for _ in range(3)
    )
    scale = torch.tensor(14.3, device=device, requires_grad=True)

    def step() -> torch.Tensor:
        loss = sum(contrastive_loss(image, text, scale, max_logits=WAYS[way]) for text in (long_text, short_text))
        loss.backward()
        return loss.detach()

    for tensor in (image, long_text, short_text):
        tensor.grad = torch.zeros_like(tensor)
    before = peak_memory(device)
    repeats, warm_up = (1, 0) if size >= LARGE and device == "cpu" else (3, 1)
    losses: list[torch.Tensor] = []
    times = timed(lambda: losses.append(step()), repeats, device, warm_up)
    # CPU time of one thread: what else the machine does changes little.
    seconds = median(times.wall if device == "cuda" else times.cpu)
    return {"seconds": seconds, "gb": peak_memory(device) - before, "loss": losses[0].item()}


def free_memory(device: str) -> float:
    """GB."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 1e9
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024 / 1e9


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    points: dict[str, dict[str, Any]] = {}
    rows = []
    for size in arguments.sizes:
        row: dict[str, Any] = {"batch": size}
        for way in WAYS:
            needed = PLAIN_MATRICES * size**2 * 4 / 1e9
            if way == "plain" and needed > 0.8 * free_memory(arguments.device):
                row |= {f"{way} s": "–", f"{way} GB": f"about {needed:.0f} needed"}
                continue
            options = ["--alone", way, "--sizes", str(size), "--width", str(arguments.width)]
            options += ["--device", arguments.device, "--threads", str(arguments.threads)]
            point = run_fresh(
                lambda way=way, size=size: run_point(way, size, arguments.width, arguments.device),
                "benchmarks.loss_scaling",
                options,
                arguments.device,
            )
            points.setdefault(str(size), {})[way] = point
            row |= {f"{way} s": f"{point['seconds']:.3g}", f"{way} GB": f"{point['gb']:.3g}"}
        both = points[str(size)]
        if len(both) == 2 and abs(both["plain"]["loss"] - both["chunked"]["loss"]) > 1e-4:
            raise RuntimeError(f"The plain and the chunked loss differ at batch {size}: {both}")
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(table(rows))
    return {"points": points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--width", type=int, default=512, help="of the embeddings")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--alone", choices=tuple(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.alone:
        print(json.dumps(run_point(arguments.alone, arguments.sizes[0], arguments.width, arguments.device)))
    else:
        save(arguments.output, report(arguments), arguments.device)


if __name__ == "__main__":
    main()
