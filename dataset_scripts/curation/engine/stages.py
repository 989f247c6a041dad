"""The stages of a run, and one shard of one stage: read, through the step in batches, written.

input → the recipe's steps → records. Before rule-based negatives a stage counts attributes over the whole data set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_scripts.atomic import write_json
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from modeling_fgclip.pixels import to_rgb

from ..language.attributes import DEFAULT_VOCABULARY
from ..language.prior import AttributePrior
from ..models.prompts import load_prompt
from .recipe import Recipe, Resources, step_class
from .shards import ANNOTATIONS, read_rows, read_statistics, shard_name, write_shard
from .sources import InputSettings, read_unit

Clocks = tuple[float, float]  # wall and processor time at which a shard was begun

_INPUT = "input"
_PRIOR = "prior"
_RECORDS = "records"
_IMAGE_COLUMNS = ["image"]
# Settings that change how a step runs, not what comes out: a run may be resumed with others.
_OPERATIONAL = {"api_key_env", "backoff", "base_url", "batch_size", "completion_price", "concurrency", "device",
                "max_backoff", "max_cost", "prompt_price", "retries", "text_bias", "text_bias_rows", "timeout"}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One stage of a run; picklable, so that any process on any machine that sees the folder can work on it.

    `settings` are the step's (or the input's), `source` is the stage before, `fingerprint` names these settings and
    all before them.
    """

    name: str
    output: str
    source: str | None
    settings: Any
    resources: Resources
    fingerprint: str
    shards: int
    barrier: bool = False  # needs the stage before to be complete

    @property
    def folder(self) -> Path:
        return Path(self.output) / "work" / self.name

    def path(self, index: int) -> Path:
        """The file that says that a shard is done."""
        return self.folder / (f"{index:06d}.json" if self.name in (_PRIOR, _RECORDS) else shard_name(index))

    def records_path(self, index: int) -> Path:
        """In the Hub's convention, so that load_dataset finds a split `train`."""
        return Path(self.output) / _RECORDS / f"train-{index:05d}-of-{self.shards:05d}.parquet"

    def source_path(self, index: int) -> Path:
        return Path(self.output) / "work" / self.source / shard_name(index)

    def image_path(self, index: int) -> Path:
        return Path(self.output) / "work" / _INPUT / shard_name(index)

    def done(self, index: int) -> bool:
        return self.path(index).is_file()

    def statistics(self, index: int) -> dict[str, Any]:
        if self.path(index).suffix == ".json":
            return json.loads(self.path(index).read_text(encoding="utf-8"))["statistics"]
        return read_statistics(self.path(index))


def make_stages(recipe: Recipe, output: Path, shards: int) -> list[Stage]:
    """The stages of `recipe` in order, with chained fingerprints."""
    stages: list[Stage] = []
    digest = hashlib.sha256()

    def add(name: str, settings: Any, source: str | None, barrier: bool = False) -> None:
        digest.update(json.dumps([name, identity(settings), source], sort_keys=True).encode())
        resources = recipe.resources.get(name, Resources())
        stages.append(Stage(name, str(output), source, settings, resources, digest.hexdigest()[:16], shards, barrier))

    digest.update(str(recipe.shard_size).encode())
    add(_INPUT, recipe.input, None)
    source = _INPUT
    for name, settings in recipe.steps.items():
        counted = name == "negatives" and settings.method == "rules" and settings.matching != "uniform"
        if counted:
            add(_PRIOR, settings, source)
        add(name, settings, source, barrier=counted)
        source = name
    add(_RECORDS, None, source)
    return stages


def identity(settings: Any) -> dict[str, Any] | None:
    """What of the settings the output depends on, with the contents of the files that they name."""

    def strip(values: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in values.items() if name not in _OPERATIONAL}
        return {name: strip(value) if isinstance(value, dict) else value for name, value in kept.items()}

    if settings is None:
        return None
    values = strip(dataclasses.asdict(settings))
    if "prompt" in values:
        values["prompt file"] = load_prompt(settings.prompt).digest
    if "vocabulary" in values:
        content = Path(settings.vocabulary or DEFAULT_VOCABULARY).read_bytes()
        values["vocabulary file"] = hashlib.sha256(content).hexdigest()[:12]
    return values


def run_shard(stage: Stage, index: int, unit: dict[str, Any] | None = None) -> dict[str, Any]:
    """Do one shard of one stage, unless it is done. Returns its statistics."""
    if stage.done(index):
        return stage.statistics(index)
    start = time.perf_counter(), time.process_time()
    work = {_INPUT: _input, _PRIOR: _count_attributes, _RECORDS: _records}.get(stage.name, _step)
    statistics = {"stage": stage.name, "shard": index}
    work(stage, index, unit, statistics, start)
    return statistics


def _finish(statistics: dict[str, Any], start: Clocks, **values: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    statistics.update(seconds=round(wall, 3), cpu_seconds=round(cpu, 3), **values)
    return statistics


def _input(stage: Stage, index: int, unit: dict[str, Any], statistics: dict[str, Any], start: Clocks) -> None:
    report = Report()
    settings: InputSettings = stage.settings
    rows = [{**row, "expressions": [], "failures": []} for row in read_unit(unit, settings, report)]
    features = type(ANNOTATIONS)({"image": FEATURES["image"], **ANNOTATIONS})
    failures = dict(report.problems)
    write_shard(stage.path(index), rows, features, _finish(statistics, start, records=len(rows), failures=failures))


def _step(stage: Stage, index: int, unit: None, statistics: dict[str, Any], start: Clocks) -> None:
    """The step over the shard, batch by batch."""
    step = _make_step(stage)
    rows = read_rows(stage.source_path(index), list(ANNOTATIONS))
    before = Counter(reason for row in rows for reason in row["failures"])
    size = stage.resources.batch_size or max(1, len(rows))
    done: list[dict[str, Any]] = []
    opened = (
        step.open_journal(stage.folder / "journal" / f"{index:06d}.jsonl") if hasattr(step, "open_journal") else None
    )
    images = _encoded_images(stage, index) if step.needs_images else []
    with opened if opened is not None else nullcontext():
        for i in range(0, len(rows), size):
            part = rows[i : i + size]
            batch = {name: [row[name] for row in part] for name in ANNOTATIONS}
            if step.needs_images:
                batch["image"] = [to_rgb(image["bytes"]) for image in images[i : i + size]]
            batch = step(batch)
            done += [
                dict(zip(ANNOTATIONS, values, strict=True))
                for values in zip(*(batch[n] for n in ANNOTATIONS), strict=True)
            ]
    failures = Counter(reason for row in done for reason in row["failures"]) - before
    usage = step.usage() if hasattr(step, "usage") else None
    _finish(statistics, start, records=len(done), failures=dict(failures), counts=_counts(done), usage=usage)
    write_shard(stage.path(index), done, ANNOTATIONS, statistics)


def _count_attributes(stage: Stage, index: int, unit: None, statistics: dict[str, Any], start: Clocks) -> None:
    step = step_class("negatives")(stage.settings)
    rows = read_rows(stage.source_path(index), ["source_id", "regions"])
    prior = step.count({name: [row[name] for row in rows] for name in ("source_id", "regions")})
    _finish(statistics, start, records=len(rows), failures={})
    write_json(stage.path(index), {"statistics": statistics, "prior": prior.to_dict()})


def merge_prior(stage: Stage) -> AttributePrior:
    """The counts of all shards of the prior's stage."""
    total = AttributePrior()
    for index in range(stage.shards):
        content = json.loads(stage.path(index).read_text(encoding="utf-8"))
        total.merge(AttributePrior(content["prior"]))
    return total


def _records(stage: Stage, index: int, unit: None, statistics: dict[str, Any], start: Clocks) -> None:
    """Annotations and images joined to records; what has no caption by now is left out."""
    rows = read_rows(stage.source_path(index))
    images = _encoded_images(stage, index)
    kept = [
        {**{name: row[name] for name in FEATURES if name != "image"}, "image": image}
        for row, image in zip(rows, images, strict=True)
        if row["caption"] or row["short_captions"]
    ]
    failures = {"records: no caption": len(rows) - len(kept)} if len(kept) < len(rows) else {}
    _finish(statistics, start, records=len(kept), failures=failures, counts=_counts(kept))
    if kept:  # `datasets` does not read a parquet file without rows
        write_shard(stage.records_path(index), kept, FEATURES, statistics)
    write_json(stage.path(index), {"statistics": statistics})


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    regions = [region for row in rows for region in row["regions"]]
    return {
        "captions": sum(bool(row["caption"]) for row in rows),
        "expressions": sum(len(row.get("expressions", [])) for row in rows),
        "regions": len(regions),
        "regions with negatives": sum(bool(region["negatives"]) for region in regions),
        "negatives": sum(len(region["negatives"]) for region in regions),
    }


def _encoded_images(stage: Stage, index: int) -> list[dict[str, Any]]:
    return [row["image"] for row in read_rows(stage.image_path(index), _IMAGE_COLUMNS)]


_steps: dict[tuple[str, ...], Any] = {}  # steps with their models, kept for the next shard of this process


def _make_step(stage: Stage) -> Any:
    key = (stage.name, stage.output, stage.fingerprint, repr(stage.settings))
    if key not in _steps:
        for other in [k for k in _steps if k[1] != stage.output or k[0] == stage.name]:
            del _steps[other]  # of an earlier run, or with earlier settings
        options = {}
        if stage.name == "negatives" and stage.barrier:
            path = Path(stage.output) / "work" / _PRIOR / "prior.json"
            options["prior"] = AttributePrior(json.loads(path.read_text(encoding="utf-8")))
        _steps[key] = step_class(stage.name)(stage.settings, **options)
    return _steps[key]
