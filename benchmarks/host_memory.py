"""Resident memory of a CPU run of stage 2 as it goes on, with the bounds of `eval/host_memory.py` and `fgclip/heap.py` and without.

python -m benchmarks.host_memory --model outputs/quickstart/stage1 --train-data outputs/quickstart/sample/train \
    --steps 50 100 300 --output benchmarks/results/host_memory.json

Each way runs the tiny stage 2 in a process of its own. Without, the heap is as the C library has it, oneDNN keeps 1,024 shapes,
its own default, and nothing is given back to the system. Peaks are those since the step before in the table.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import psutil
from transformers import TrainerCallback

import training.trainer
from benchmarks.measure import run_alone, save, table
from training.arguments import Stage2Arguments
from training.cli import parse_arguments
from training.stages import train

RECIPE = Path(__file__).parents[1] / "training" / "recipes" / "tiny_stage2.yaml"
# Of each, the environment of its process.
WAYS = {"without": {"GLIBC_TUNABLES": "", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}, "bounded": {}}


def peak_since() -> float:
    """Peak resident GB since the last call."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    return int(lines["VmHWM"].split()[0]) * 1024 / 1e9


class Watch(TrainerCallback):
    """Notes resident GB, those of them that are files, peak GB and CPU seconds after some of the steps."""

    def __init__(self, steps: list[int]):
        self.steps, self.notes, self._process, self._began = steps, {}, psutil.Process(), 0.0

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._began = process_time()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step in self.steps:
            memory = self._process.memory_info()
            used = process_time() - self._began
            self.notes[state.global_step] = (memory.rss / 1e9, memory.shared / 1e9, peak_since(), used)


def run(arguments: argparse.Namespace) -> None:
    """One way, in this process."""
    if arguments.alone == "without":
        training.trainer.FlatMemory = TrainerCallback
    watch = Watch(arguments.steps)
    with TemporaryDirectory() as folder:
        options = {
            "--config": RECIPE,
            "--model_name_or_path": arguments.model,
            "--train_data": arguments.train_data,
            "--output_dir": folder,
            "--max_steps": max(arguments.steps),
            "--disable_tqdm": True,
        }
        if arguments.batch_size:
            options["--per_device_train_batch_size"] = arguments.batch_size
        given = [str(part) for pair in options.items() for part in pair]
        sys.stdout, printed = sys.stderr, sys.stdout  # the log
        train(*parse_arguments(Stage2Arguments, given), callbacks=[watch])
    print(json.dumps(watch.notes), file=printed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a tiny checkpoint")
    parser.add_argument("--train-data", required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 300], help="after which memory is noted")
    parser.add_argument("--batch-size", type=int, help="instead of the recipe's")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all")
    parser.add_argument("--alone", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.alone:
        return run(arguments)
    given = ["--model", arguments.model, "--train-data", arguments.train_data, "--steps", *map(str, arguments.steps)]
    given += ["--batch-size", str(arguments.batch_size)] if arguments.batch_size else []
    results = {way: run_alone("benchmarks.host_memory", [*given, "--alone", way], WAYS[way]) for way in arguments.ways}
    rows = [
        {
            "way": way,
            "step": step,
            "resident GB": f"{resident:.2f}",
            "of files": f"{files:.2f}",
            "peak GB": f"{peak:.2f}",
            "CPU s a step": f"{seconds / int(step):.2f}",
        }
        for way, notes in results.items()
        for step, (resident, files, peak, seconds) in notes.items()
    ]
    print(table(rows))
    save(arguments.output, {"results": rows})


if __name__ == "__main__":
    main()
