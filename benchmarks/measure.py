"""What the benchmarks share: peak memory of a process of its own, the hardware in words, tables, results as JSON."""

import gc
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
import transformers

from eval.names import name_of
from fgclip.heap import heap_settings

# Environment variables that decide about peak memory on a CPU; named in the command where they are set.
ALLOCATOR = ("LD_PRELOAD", "MALLOC_CONF", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def hardware(device: str = "cpu") -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def peak_memory(device: str = "cpu") -> float:
    """Peak memory of this process so far in GB: resident on a CPU, allocated by torch on CUDA."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@dataclass
class Times:
    """Seconds of each repeat.

    Args:
        wall: by the clock.
        cpu: of all threads of this process; with one thread hardly changed by what else the machine does.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def timed(function: Callable[[], Any], repeats: int, device: str = "cpu", warm_up: int = 1) -> Times:
    """Times `repeats` calls, after a warm-up."""
    times = Times()
    for number in range(warm_up + repeats):
        wall, cpu = perf_counter(), process_time()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        if number >= warm_up:
            times.wall.append(perf_counter() - wall)
            times.cpu.append(process_time() - cpu)
    return times


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def run_alone(module: str, arguments: Sequence[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs `python -m module …` as a process of its own, its heap as commands have it, and reads the JSON object on its last line.

    Raises:
        RuntimeError: where it fails; the message ends with what it wrote.
    """
    command = [sys.executable, "-m", module, *arguments]
    settings = {**os.environ, **heap_settings(), **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=settings)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[1:])} ended with {done.returncode} (-9: out of memory): {done.stderr[-1500:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


class OutOfMemory(RuntimeError):
    """What was to be measured did not fit."""


def run_fresh(
    work: Callable[[], dict[str, Any]], module: str, arguments: Sequence[str], device: str = "cpu"
) -> dict[str, Any]:
    """Results of `work` whose peak of memory is its own: on a CPU by `run_alone`; on CUDA here, after all is freed.

    Args:
        work: what `python -m module …` does with these arguments.

    Raises:
        OutOfMemory: where it does not fit.
    """
    if device == "cpu":
        try:
            return run_alone(module, arguments)
        except RuntimeError as error:
            raise OutOfMemory(str(error)) if "ended with -9" in str(error) else error from None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        return work()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of one kind as Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows)])


def save(path: Path | None, results: dict[str, Any], device: str = "cpu") -> None:
    """Writes results with the command, the hardware and the versions they were taken with."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = list(sys.argv[1:])
    if "--output" in arguments:
        place = arguments.index("--output")
        del arguments[place : place + 2]
    name = Path(sys.argv[0]).stem
    environment = [f"{name}={Path(os.environ[name]).name}" for name in ALLOCATOR if name in os.environ]
    arguments = [name_of(value) if Path(value).is_absolute() else value for value in arguments]
    command = " ".join([*environment, "python -m", f"benchmarks.{name}", *arguments])
    header = {"command": command, "hardware": hardware(device)}
    path.write_text(json.dumps({**header, **versions(), **results}, indent=1) + "\n")
    print(f"wrote {path}")
