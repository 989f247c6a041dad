"""What a GPU's allocator holds beyond the tensors, over batches that all have other shapes: with and without expandable segments.

python -m benchmarks.cuda_allocator --batch-size 64 --steps 40

Packed texts have another length in every batch, and a cached block of memory fits no later one. The trainers set
`expandable_segments` (`eval/host_memory.py`). Each way runs in a process of its own, over the same batches.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device

from benchmarks.measure import median, run_alone, save, table, timed
from benchmarks.stage2_batch import CASES, make_batch
from benchmarks.stage2_step import CHECKPOINTING, build_model, loss_function
from training.architectures import ARCHITECTURES
from training.optimizer import parameter_groups

WAYS = {"as PyTorch has it": "expandable_segments:False", "expandable segments": "expandable_segments:True"}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """GB at the peak, and seconds of a step, of optimization steps over batches of their own."""
    model = build_model(arguments)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.001, 1e-6), fused=True)

    def step(batch: dict[str, Any]) -> None:
        loss_function(model, batch, arguments)().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = []
    for seed in range(1 + arguments.steps):
        batch = send_to_device(make_batch(model.config, arguments.batch_size, arguments.case, seed), "cuda")
        seconds += timed(partial(step, batch), 1, "cuda", warm_up=0).wall
    return {
        "seconds": seconds[1:],
        "allocated_gb": torch.cuda.max_memory_allocated() / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=ARCHITECTURES, default="b16")
    parser.add_argument("--case", choices=CASES, default="hard")
    parser.add_argument("--checkpointing", choices=CHECKPOINTING, default="none")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40, help="after a first one that is not timed")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = {"device": "cuda", "dtype": "bfloat16", "seed": 0, "attn_implementation": None, "compile": False}
    if arguments.alone:
        print(json.dumps(run(argparse.Namespace(**vars(arguments), **settings))))
        return
    options = [
        "--alone",
        "--model",
        arguments.model,
        "--case",
        arguments.case,
        "--checkpointing",
        arguments.checkpointing,
    ]
    options += ["--batch-size", str(arguments.batch_size), "--steps", str(arguments.steps)]
    results = {
        way: run_alone("benchmarks.cuda_allocator", options, {"PYTORCH_CUDA_ALLOC_CONF": setting})
        for way, setting in WAYS.items()
    }
    rows = [
        {
            "allocator": way,
            "tensors GB": f"{result['allocated_gb']:.2f}",
            "held GB": f"{result['reserved_gb']:.2f}",
            "beyond tensors": f"{result['reserved_gb'] / result['allocated_gb'] - 1:.1%}",
            "s a step": f"{median(result['seconds']):.3f}",
        }
        for way, result in results.items()
    ]
    print(table(rows))
    save(arguments.output, results, "cuda")


if __name__ == "__main__":
    main()
