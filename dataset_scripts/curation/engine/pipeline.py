"""A whole run: plan, stages on an engine, report. What is done already is not done again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataset_scripts.atomic import write_json
from dataset_scripts.locking import writing

from ..settings import identity
from ..steps import STEPS, step_class
from . import ENGINES
from .input import Unit, plan_units
from .progress import Progress
from .recipe import Recipe, missing_columns
from .stages import Stage, make_stages, merge_survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TRANSPORT = ("time-out", "connection", "HTTP ", "malformed answer")


def curate(
    recipe: Recipe,
    input: str | Path,
    output: str | Path,
    engine: str = "local",
    workers: int | None = None,
    redo: str | None = None,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Run `recipe` over `input`; records appear in ``output/records``, the report in ``output/report.json``.

    Run it again after any interruption, with either engine: finished shards stay, and answers in journals are not asked
    for again.

    Args:
        redo: do this step and the following anew.
        retry_failed: ask again what an endpoint did not answer (time-outs, connection and server errors).

    Raises:
        ValueError: the output was made with other settings, another run is writing to it, or the input lacks what a
            step needs.
    """
    output = Path(output).resolve()
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}.")
    with exclusive(output):
        units, problems = load_plan(recipe, input, output)
        stages = make_stages(recipe, output, len(units))
        if redo is not None:
            _forget(stages, redo)
        _check_fingerprints(stages)
        if retry_failed:
            _forget_failed(stages)
        if not all(stages[0].done(index) for index in range(len(units))):
            stages[0] = replace(stages[0], images=recipe.input.open(str(input)).images)
        for segment in _segments(stages):
            _run_segment(segment, units, engine, workers)
            if segment[-1].kind == "input":
                _check_needs(recipe, segment[-1])
            if segment[-1].kind == "survey":
                merge_survey(segment[-1])
        report = make_report(stages, units, problems)
        annotations = [stages[-2].path(index) for index in range(len(units))]
        for name, settings in recipe.steps.items():
            report |= step_class(name).report(settings, annotations, recipe.seed)
        write_json(output / "report.json", report)
    return report


def load_plan(recipe: Recipe, input: str | Path, output: Path) -> tuple[list[Unit], dict[str, int]]:
    """The plan of an earlier run on this output, or a new one, and what was wrong with the input's annotations.

    Files that appear in the input later are not in it.
    """
    path = output / "work" / "plan.json"
    place = str(Path(input).resolve()) if Path(input).exists() else str(input)
    asked = {"input": place, "settings": asdict(recipe.input), "shard_size": recipe.shard_size}
    if path.is_file():
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["asked"] != asked:
            raise ValueError(
                f"{output} was begun with {plan['asked']}, and is now given {asked}; use another --output."
            )
        return [Unit(str(output / "work" / "plan" / name), size) for name, size in plan["units"]], plan["problems"]
    units, problems = _new_plan(recipe, place, output / "work" / "plan")
    write_json(path, {"asked": asked, "units": [(Path(u.path).name, u.size) for u in units], "problems": problems})
    return units, problems


def _new_plan(recipe: Recipe, place: str, folder: Path) -> tuple[list[Unit], dict[str, int]]:
    source = recipe.input.open(place)
    units, report = plan_units(source, folder, recipe.shard_size, recipe.input.limit, recipe.seed)
    return units, dict(report.problems)


def describe(recipe: Recipe, input: str | Path, output: str | Path) -> str:
    """What a run would do, without doing it: records, shards and requests by stage."""
    output = Path(output).resolve()
    path = output / "work" / "plan.json"
    if path.is_file():
        units, _ = load_plan(recipe, input, output)
    else:
        with tempfile.TemporaryDirectory() as folder:
            units, _ = _new_plan(recipe, str(input), Path(folder) / "plan")
    stages = make_stages(recipe, output, len(units))
    _check_fingerprints(stages)
    lines = [f"{sum(unit.size for unit in units):,} records in {len(units):,} shards of up to {recipe.shard_size:,}"]
    for stage in stages:
        done = sum(stage.done(i) for i in range(stage.shards))
        asked = ""
        if stage.chat is not None:
            asked = (
                f"; 1 request a {stage.asks}: {stage.chat.backend} {stage.chat.model} {stage.chat.base_url}".rstrip()
            )
            if stage.chat.max_cost is not None:
                asked += f", up to {stage.chat.max_cost:g}"
        lines.append(f"  {stage.name:12} {done:>7,} of {stage.shards:,} shards done{asked}")
    return "\n".join(lines)


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """One run at a time on this folder; waits for workers of a killed run to notice its end."""
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    with writing(output), open(work / ".workers.lock", "a") as old_workers:
        fcntl.flock(old_workers, fcntl.LOCK_EX)
        fcntl.flock(old_workers, fcntl.LOCK_UN)
        yield


def _segments(stages: list[Stage]) -> Iterator[list[Stage]]:
    """Runs of stages without a barrier inside. The input ends one, and a survey: the next stage needs all of it."""
    segment: list[Stage] = []
    for stage in stages:
        if stage.barrier and segment:
            yield segment
            segment = []
        segment.append(stage)
    yield segment


def _run_segment(segment: list[Stage], units: list[Unit], engine: str, workers: int | None) -> None:
    """The open shards of these stages, with a bar for each stage."""
    for stage in segment:
        write_json(stage.folder / "stage.json", _stage_file(stage))
    # a bar's clock starts with its stage: on Ray all at once, locally one after the other
    groups = [segment] if engine == "ray" else [[stage] for stage in segment]
    run = _engine(engine)
    for group in groups:
        bars = {stage.name: Progress(stage, units, len(group), at) for at, stage in enumerate(group)}
        try:
            run(group, units, workers, lambda statistics, bars=bars: bars[statistics["stage"]].update(statistics))
        finally:
            for bar in bars.values():
                bar.close()


def _engine(name: str) -> Callable[..., None]:
    if name == "ray":
        from .ray import run_ray

        return run_ray
    from .local import run_local

    return run_local


def _check_needs(recipe: Recipe, stage: Stage) -> None:
    """Whether the input has what the steps read and none of them makes.

    Raises:
        ValueError: it lacks something.
    """
    parts = [stage.statistics(index) for index in range(stage.shards)]
    if not any(part["records"] for part in parts):
        failures = sum((Counter(part["failures"]) for part in parts), Counter())
        raise ValueError(f"None of the input's records can be read: {dict(failures.most_common(5))}.")
    filled = {column for part in parts for column in part["filled"]}
    for name, column in missing_columns(recipe.steps, given=filled.__contains__):
        base = {choice.partition(".")[0] for choice in column.split(" or ")}
        ways = [f"the step {step}" for step in STEPS if base & set(step_class(step).writes)]
        ways.append(f"{' or '.join(sorted(base))} to the input")
        wanted = column.replace(".", " with ")
        raise ValueError(f"{name} needs {wanted}, and no record of the input has any. Add {', or '.join(ways)}.")


def _stage_file(stage: Stage) -> dict[str, Any]:
    return {"fingerprint": stage.fingerprint, "settings": identity(stage.settings)}


def _check_fingerprints(stages: list[Stage]) -> None:
    """Shards of other settings must not be mixed with new ones."""
    for stage in stages:
        path = stage.folder / "stage.json"
        if not path.is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["fingerprint"] == stage.fingerprint:
            continue
        old, new = found["settings"] or {}, _stage_file(stage)["settings"] or {}
        changed = [f"{k}: {old.get(k)!r} → {new.get(k)!r}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        raise ValueError(
            f"{stage.folder} was made with other settings ({'; '.join(changed) or 'of a step before it'}). "
            f"Use another --output, or --redo {stage.name} to make it and what follows anew."
        )


def _forget(stages: list[Stage], name: str) -> None:
    """Delete what a stage and those after it made. Journals of answers stay: they name the question they answer."""
    names = [stage.name for stage in stages]
    if name not in names:
        raise ValueError(f"--redo {name}: the recipe's stages are {', '.join(names)}.")
    first = names.index(name)
    if first and stages[first].survey == names[first - 1]:
        first -= 1
    for stage in stages[first:]:
        for path in stage.folder.glob("*"):
            if path.name != "journal":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(Path(stages[0].output) / "records", ignore_errors=True)


def _forget_failed(stages: list[Stage]) -> None:
    """Delete shards with answers that never came, and all that was made of them."""
    bad: set[int] = set()
    for stage in stages:
        for index in range(stage.shards):
            if stage.done(index) and stage.chat is not None:
                reasons = [r.split(": ", 1)[-1] for r in stage.statistics(index).get("failures") or {}]
                if any(reason.startswith(_TRANSPORT) for reason in reasons):
                    bad.add(index)
        # counts over the whole data set change with any shard
        gone = range(stage.shards) if bad and stage.survey else bad
        bad = set(gone)
        for index in gone:
            stage.path(index).unlink(missing_ok=True)


def make_report(stages: list[Stage], units: list[Unit], problems: dict[str, int]) -> dict[str, Any]:
    """Counts, failures by reason, work and rate of each stage."""
    report: dict[str, Any] = {"read": sum(unit.size for unit in units), "cores": os.cpu_count(), "stages": {}}
    for stage in stages:
        parts = [stage.statistics(i) for i in range(stage.shards)]
        totals: dict[str, Any] = {"records": sum(p["records"] for p in parts)}
        seconds = sum(p["seconds"] for p in parts)
        totals["worker_seconds"] = round(seconds, 3)
        totals["cpu_seconds"] = round(sum(p["cpu_seconds"] for p in parts), 3)
        totals["records_per_worker_second"] = round(totals["records"] / seconds, 2) if seconds else None
        failures = sum((Counter(p["failures"]) for p in parts), Counter(problems if stage.kind == "input" else {}))
        totals["failures"] = dict(failures.most_common())
        if any(p.get("counts") for p in parts):
            totals["counts"] = dict(sum((Counter(p["counts"]) for p in parts), Counter()))
        if any(p.get("usage") for p in parts):
            usage: Counter[str] = Counter()
            for p in parts:
                usage.update(p.get("usage") or {})
            totals["usage"] = dict(usage)
        report["stages"][stage.name] = totals
    return report
