"""Runs tasks on a model: in memory for a trainer, from a checkpoint for the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from accelerate.utils import gather_object
from transformers import PreTrainedModel, ProcessorMixin

from eval.adapters import ModelAdapter, adapter_for
from eval.embed import Embedder
from eval.environment import environment
from eval.results import Result
from eval.tasks import Task, make_task

logger = logging.getLogger(__name__)


def evaluate_model(
    model: PreTrainedModel | ModelAdapter,
    processor: ProcessorMixin | None = None,
    tasks: Mapping[str, Mapping[str, Any] | Task] | None = None,
    *,
    batch_size: int | None = None,
    num_workers: int = 0,
    precision: str = "float32",
    region_features: str = "dense",
    allow_missing: bool = False,
    distributed: bool = True,
    progress: bool = True,
) -> dict[str, Result]:
    """Evaluate a model that is in memory; it stays on its device and returns to its training mode.

    Args:
        model: an FG-CLIP, CLIP or SigLIP model of transformers, or a `ModelAdapter`.
        processor: the model's processor; not with an adapter.
        tasks: label → options of a task. The label is the task's name, or any label when the options hold a "task":
            `{"fgovd": {"data": DIR}, "phrases": {"data": DIR, "root": "test"}, "seen": {"task": "phrases", …}}`.
        batch_size: images a batch; None takes what suits the device. num_workers: loading processes.
        precision: "float32" or "bfloat16".
        region_features: "dense" or "crop".
        allow_missing: compute on the images that can be read.
        distributed: all of accelerate's processes call and share the work; False when only one calls.
        progress: show progress bars.
    Returns:
        label → result, in the order of `tasks`; the same on every process.
    Raises:
        ValueError: unknown tasks or options, missing files, bad data.
    """
    adapter = model if isinstance(model, ModelAdapter) else adapter_for(model, processor)
    if not tasks:
        raise ValueError("tasks is empty; name at least one, e.g. {'fgovd': {'data': DIR}}.")
    made = {
        label: _task(label, options) for label, options in tasks.items()
    }  # all options are checked before any work
    was_training = adapter.model.training
    device = next(adapter.model.parameters()).device
    embedder = Embedder(
        adapter,
        batch_size=batch_size,
        num_workers=num_workers,
        precision=precision,
        region_features=region_features,
        allow_missing=allow_missing,
        distributed=distributed,
        progress=progress,
        device=device,
    )
    try:
        return {label: run_task(task, embedder) for label, task in made.items()}
    finally:
        adapter.model.train(was_training)


def run_task(task: Task, embedder: Embedder, data: Any = None) -> Result:
    """One task with its wall time and where it was run.

    Args:
        data: what the task's `checked` returned; None calls it.
    """
    start = time.perf_counter()
    result = task.run(embedder, data)
    result.seconds = round(time.perf_counter() - start, 2)
    counts = gather_object([embedder.batches]) if embedder.distributed else [embedder.batches]
    result.environment = environment() | {
        "processes": str(embedder.state.num_processes if embedder.distributed else 1),
        "batch size": str(embedder.batch_size),
        "batches": ", ".join(f"{sum(c[kind] for c in counts)} {kind}" for kind in embedder.batches),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return result


def _task(label: str, options: Mapping[str, Any] | Task) -> Task:
    if isinstance(options, Task):
        return options
    options = dict(options)
    return make_task(options.pop("task", label), options)
