"""Seconds until each command has shown its options, of one checkout or of several in turn.

python -m benchmarks.start_times [CHECKOUT …] --output benchmarks/results/start_times.json

Processor time is what a loaded machine leaves nearly alone; the wall clock is added where nothing else runs.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from fgclip.command_line import Parser, run_command
from fgclip.commands import COMMANDS

HERE = Path(__file__).parents[1]


def seconds(checkout: Path, words: list[str]) -> dict[str, float]:
    """Of one start: by the wall clock, and of processor time; infinite where the checkout lacks the command."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "fgclip", *words]
    if subprocess.run(command, cwd=checkout, env=environment, capture_output=True).returncode:
        return {"wall": math.inf, "cpu": math.inf}
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def main(arguments: list[str] | None = None) -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE], help="compared with each other")
    parser.add_argument("--repeats", type=int, default=3, help="the quickest counts (default: 3)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    starts = [["--help"], *([*command.words, "--help"] for command in COMMANDS), ["eval", "--list_tasks"]]
    found: dict[str, list[dict[str, float]]] = {}
    for words in starts:
        name = " ".join(["fgclip", *words])
        for checkout in options.checkouts:
            runs = [seconds(checkout.resolve(), words) for _ in range(options.repeats)]
            best = {what: round(min(run[what] for run in runs), 2) for what in ("wall", "cpu")}
            found.setdefault(name, []).append(best)
        print(
            f"{name:32}" + "".join(f"{one['cpu']:8.2f} cpu {one['wall']:8.2f} wall" for one in found[name]), flush=True
        )
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
