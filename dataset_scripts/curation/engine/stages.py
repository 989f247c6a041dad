"""The stages of a run, and one shard of one stage: read, through the step in batches, written.

input → the recipe's steps → records. A step that needs counts over the whole data set has a survey before it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataset_scripts.atomic import write_json
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from modeling_fgclip.pixels import to_rgb

from ..settings import identity
from ..steps import step_class
from .input import Unit, read_unit
from .recipe import Recipe, Resources
from .shards import ANNOTATIONS, read_rows, read_statistics, shard_name, write_shard

if TYPE_CHECKING:
    from dataset_scripts.image_stores import ImageStore

    from ..models.messages import ChatSettings
    from ..steps.step import Step

Clocks = tuple[float, float]  # wall and processor time at which a shard was begun

_INPUT = "input"
_RECORDS = "records"
_IMAGE_COLUMNS = ["image"]


@dataclass(frozen=True)
class Stage:
    """One stage of a run; picklable, so that any process on any machine that sees the folder can work on it.

    `kind` is "input", "survey" (a step's counting), "step" or "records"; `settings` are the step's (or the input's),
    `source` is the stage before, `fingerprint` names these settings and all before them.
    """

    name: str
    kind: str
    output: str
    source: str | None
    settings: Any
    resources: Resources
    fingerprint: str
    shards: int
    step: str = ""  # whose work it is, by its name in the registry
    survey: str | None = None  # the stage whose counts the step gets
    barrier: bool = False  # needs the stage before to be complete
    large: bool = False  # one process is enough
    chat: ChatSettings | None = None  # the model that is asked
    asks: str = ""  # a request is about a "record" or a "region"
    images: ImageStore | None = None  # of the input, where it is still to be read

    @property
    def folder(self) -> Path:
        return Path(self.output) / "work" / self.name

    def path(self, index: int) -> Path:
        """The file that says that a shard is done."""
        return self.folder / (f"{index:06d}.json" if self.kind in ("survey", "records") else shard_name(index))

    def progress_path(self, index: int) -> Path:
        """Where a shard that asks a model shows how far it is."""
        return self.folder / "progress" / f"{index:06d}.json"

    @property
    def survey_path(self) -> Path:
        """The counts of all shards, merged."""
        return Path(self.output) / "work" / (self.survey or self.name) / "all.json"

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

    def add(name: str, kind: str, settings: Any, source: str | None, **more: Any) -> None:
        digest.update(json.dumps([name, identity(settings), source], sort_keys=True).encode())
        resources = recipe.resources.get(name, Resources())
        fingerprint = digest.hexdigest()[:16]
        stages.append(Stage(name, kind, str(output), source, settings, resources, fingerprint, shards, **more))

    digest.update(str(recipe.shard_size).encode())
    add(_INPUT, "input", recipe.input, None)
    source = _INPUT
    for name, settings in recipe.steps.items():
        step = step_class(name)
        surveyed = step.survey(settings)
        # the first step waits for the whole input, which is looked at for what the steps need
        barrier = source == _INPUT
        if surveyed is not None:
            add(surveyed[0], "survey", settings, source, step=name, barrier=barrier)
        add(
            name, "step", settings, source, step=name, survey=surveyed[0] if surveyed else None,
            barrier=barrier or surveyed is not None, large=step.large, chat=step.chat_settings(settings), asks=step.asks,
        )  # fmt: skip
        source = name
    add(_RECORDS, "records", None, source)
    return stages


def run_shard(stage: Stage, index: int, unit: Unit | None = None) -> dict[str, Any]:
    """Do one shard of one stage, unless it is done. Returns its statistics."""
    if stage.done(index):
        return stage.statistics(index)
    start = time.perf_counter(), time.process_time()
    work = {"input": _input, "survey": _survey, "step": _step, "records": _records}[stage.kind]
    statistics = {"stage": stage.name, "shard": index}
    work(stage, index, unit, statistics, start)
    return statistics


def _finish(statistics: dict[str, Any], start: Clocks, **values: Any) -> dict[str, Any]:
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    statistics.update(seconds=round(wall, 3), cpu_seconds=round(cpu, 3), **values)
    return statistics


def _input(stage: Stage, index: int, unit: Unit, statistics: dict[str, Any], start: Clocks) -> None:
    report = Report()
    rows = [{**row, "expressions": [], "failures": []} for row in read_unit(unit, stage.images, report)]
    features = type(ANNOTATIONS)({"image": FEATURES["image"], **ANNOTATIONS})
    failures = dict(report.problems)
    _finish(statistics, start, records=len(rows), failures=failures, filled=filled_columns(rows))
    write_shard(stage.path(index), rows, features, statistics)


def filled_columns(rows: list[dict[str, Any]]) -> list[str]:
    """The columns, and fields of regions as "regions.NAME", that hold something in at least one row."""
    filled = {name for row in rows for name, value in row.items() if value}
    fields = {name for row in rows for region in row["regions"] for name, value in region.items() if value}
    return sorted(filled | {f"regions.{name}" for name in fields})


def _step(stage: Stage, index: int, unit: None, statistics: dict[str, Any], start: Clocks) -> None:
    """The step over the shard, batch by batch."""
    step = _make_step(stage)
    rows = read_rows(stage.source_path(index), list(ANNOTATIONS))
    before = Counter(reason for row in rows for reason in row["failures"])
    size = stage.resources.batch_size or max(1, len(rows))
    done: list[dict[str, Any]] = []
    step.counts.clear()
    opened: Any = nullcontext()
    if step.chat is not None:
        opened = step.chat.opened(stage.folder / "journal" / f"{index:06d}.jsonl", stage.progress_path(index))
    images = _encoded_images(stage, index) if step.images else []
    with opened:
        for i in range(0, len(rows), size):
            part = rows[i : i + size]
            batch = {name: [row[name] for row in part] for name in ANNOTATIONS}
            if step.images:
                batch["image"] = [to_rgb(image["bytes"]) for image in images[i : i + size]]
            batch = step(batch)
            done += [
                dict(zip(ANNOTATIONS, values, strict=True))
                for values in zip(*(batch[n] for n in ANNOTATIONS), strict=True)
            ]
    failures = Counter(reason for row in done for reason in row["failures"]) - before
    if step.chat is not None:
        statistics.update(usage=step.chat.account.to_dict(), notes=step.chat.account.notes)
    counts = {**_counts(done), **step.counts}
    _finish(statistics, start, records=len(done), failures=dict(failures), counts=counts)
    write_shard(stage.path(index), done, ANNOTATIONS, statistics)
    stage.progress_path(index).unlink(missing_ok=True)


def _survey(stage: Stage, index: int, unit: None, statistics: dict[str, Any], start: Clocks) -> None:
    step = _make_step(stage)
    rows = read_rows(stage.source_path(index), list(ANNOTATIONS))
    counts = step.count({name: [row[name] for row in rows] for name in ANNOTATIONS})
    _finish(statistics, start, records=len(rows), failures={})
    write_json(stage.path(index), {"statistics": statistics, "counts": counts.to_dict()})


def merge_survey(stage: Stage) -> None:
    """Write the counts of all shards together."""
    _, kind = step_class(stage.step).survey(stage.settings)
    total = kind()
    for index in range(stage.shards):
        total.merge(kind(json.loads(stage.path(index).read_text(encoding="utf-8"))["counts"]))
    write_json(stage.survey_path, total.to_dict())


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


def _make_step(stage: Stage) -> Step:
    key = (stage.name, stage.output, stage.fingerprint, repr(stage.settings))
    if key not in _steps:
        for other in [k for k in _steps if k[1] != stage.output or k[0] == stage.name]:
            del _steps[other]  # of an earlier run, or with earlier settings
        cls, options = step_class(stage.step), {}
        if stage.survey is not None:
            _, kind = cls.survey(stage.settings)
            options["surveyed"] = kind(json.loads(stage.survey_path.read_text(encoding="utf-8")))
        _steps[key] = cls(stage.settings, **options)
    return _steps[key]
