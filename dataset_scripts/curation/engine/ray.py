"""The engine of a cluster: the same stages on Ray Data. Shards flow from step to step; GPU steps are actors.

What flows through Ray are shard numbers; records go through the output folder, which every machine must see. So a
killed run restarts from its files whichever engine continues it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from modeling_fgclip.extras import missing_extra

from .input import Unit
from .stages import Stage, run_shard

if TYPE_CHECKING:
    from collections.abc import Callable


def run_ray(
    stages: list[Stage], units: list[Unit], workers: int | None, on_shard: Callable[[dict[str, Any]], None]
) -> None:
    """Run stages without a barrier between them as one Ray Data pipeline.

    Args:
        stages: in order; a shard goes on to the next as soon as it is through one.
        units: the input's plan, by shard.
        workers: tasks or actors at a time for steps that the recipe gives no number; None lets Ray decide.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(missing_extra("--engine ray needs Ray", "ray")) from error
    todo = [i for i in range(stages[0].shards) if not all(stage.done(i) for stage in stages)]
    if not todo:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours shows records and failures
    rows = [{"shard": i, "unit": json.dumps(asdict(units[i])), "new": "[]"} for i in todo]
    pipeline = ray.data.from_items(rows, override_num_blocks=len(rows))
    for stage in stages:
        number = stage.resources.workers or workers
        options: dict[str, Any] = {"num_cpus": stage.resources.cpus}
        if stage.resources.gpus:
            pool = ray.data.ActorPoolStrategy(size=number or 1)
            options["num_gpus"] = stage.resources.gpus
            pipeline = pipeline.map(StageActor, fn_constructor_args=(stage,), compute=pool, **options)
        else:
            pool = ray.data.TaskPoolStrategy(size=number)
            pipeline = pipeline.map(partial(run_row, stage), compute=pool, **options)
    for row in pipeline.iter_rows():
        for statistics in json.loads(row["new"]):
            on_shard(statistics)


def run_row(stage: Stage, row: dict[str, Any]) -> dict[str, Any]:
    """One shard through one stage."""
    if stage.done(row["shard"]):
        return row
    statistics = run_shard(stage, row["shard"], Unit(**json.loads(row["unit"])))
    return {**row, "new": json.dumps([*json.loads(row["new"]), statistics])}


class StageActor:
    """A process that keeps the stage's model on its GPU between shards."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return run_row(self.stage, row)
