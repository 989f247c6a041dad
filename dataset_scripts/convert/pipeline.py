"""Writes shards from a plan: images read in parallel, order kept, every step repeatable after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataset_scripts.atomic import replacing, write_json
from dataset_scripts.convert.plan import ShardPlan, distinct
from dataset_scripts.convert.settings import ConvertSettings
from dataset_scripts.convert.source import Draft, Source, record_of
from dataset_scripts.images import CheckedImage, check_image
from dataset_scripts.locking import writing
from dataset_scripts.prefetch import prefetch
from dataset_scripts.progress import progress_bar
from dataset_scripts.report import Report
from dataset_scripts.shards import ShardFile, ShardInfo, manifest_path, write_manifest


@dataclass
class _State:
    """Everything known at the end of a shard; a killed run goes on from here."""

    bucket: int = 0
    offset: int = 0
    done: int = 0
    left_out_bytes: int = 0
    shards: list[ShardInfo] = field(default_factory=list)
    images: Report = field(default_factory=Report)

    def save(self, path: Path) -> None:
        content = {**vars(self), "shards": [asdict(s) for s in self.shards], "images": self.images.as_dict()}
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> _State:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["shards"] = [ShardInfo(**shard) for shard in content["shards"]]
        content["images"] = Report.from_dict(content["images"])
        return cls(**content)


class _Writer:
    """Puts records into shards, what has no image into ``left_out``, and the state on disk after every shard."""

    def __init__(self, output: Path, work: Path, settings: ConvertSettings, source: Source, state: _State) -> None:
        self.output, self.settings, self.source, self.state = output, settings, source, state
        self._state_file = work / "state.json"
        self._left_out = open(work / "left_out.jsonl", "ab")  # noqa: SIM115 (closed in finish)
        self._left_out.truncate(state.left_out_bytes)  # what a killed run wrote after its last shard comes again
        self._left_out.seek(0, 2)
        self._shard: ShardFile | None = None
        self._in_shard: list[str] = []

    def add(self, drafts: list[Draft], record: dict[str, Any]) -> None:
        images = self.state.images
        if self._shard is None:
            name = f"{self.settings.split}-{len(self.state.shards):05d}"
            self._shard = ShardFile(self.output, name, self.settings.shard_format)
        self._shard.add(record)
        self._in_shard += [draft["image"] for draft in drafts]
        images.keep("records kept")
        images.keep("regions kept", len(record["regions"]))
        images.keep("negatives kept", sum(len(region["negatives"]) for region in record["regions"]))

    def leave_out(self, drafts: list[Draft], reason: str) -> None:
        for draft in drafts:
            self._left_out.write((json.dumps({"reason": reason, "draft": draft}) + "\n").encode())

    @property
    def is_full(self) -> bool:
        return self._shard is not None and self._shard.records == self.settings.shard_size

    def close_shard(self, bucket: int, offset: int) -> None:
        """Completes the current shard; everything before the position is then on disk."""
        if self._shard is not None:
            self.state.shards.append(self._shard.close())
        self._shard = None
        self._left_out.flush()
        state = self.state
        state.bucket, state.offset, state.left_out_bytes = bucket, offset, self._left_out.tell()
        state.save(self._state_file)
        if self.source.release is not None:
            for image in self._in_shard:
                self.source.release(image)
        self._in_shard = []

    def finish(self) -> None:
        self._left_out.close()


def _write(
    plan: ShardPlan, source: Source, output: Path, work: Path, settings: ConvertSettings, state: _State
) -> None:
    writer = _Writer(output, work, settings, source, state)
    report = state.images
    report.on_bad = settings.on_bad
    bar = progress_bar(total=plan.drafts, initial=state.done, desc=f"writing {settings.split}", unit="record")

    def load(planned: tuple[int, int, list[Draft]]) -> CheckedImage:
        return check_image(source.images.read(planned[2][0]["image"]))

    pictures = plan.from_position(state.bucket, state.offset)
    for (bucket, offset, drafts), future in prefetch(pictures, load, settings.workers, _size):
        state.done += len(drafts)
        bar.update(len(drafts))
        drafts = distinct(drafts, report)
        record, reason = record_of(drafts, future.result, report)
        if record is not None:
            writer.add(drafts, record)
        elif reason is not None:
            writer.leave_out(drafts, reason)
        if writer.is_full:
            writer.close_shard(bucket, offset)
    writer.close_shard(plan.buckets, 0)
    writer.finish()
    bar.close()


def _size(image: CheckedImage) -> int:
    return len(image.data)


def _check_same_run(work: Path, identity: dict[str, Any]) -> None:
    path = work / "settings.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != identity:
            changed = sorted(key for key in identity if found.get(key) != identity[key])
            raise ValueError(
                f"{work} holds an unfinished conversion with other {', '.join(changed)}; finish it with the same, or "
                "name another output folder"
            )
    else:
        write_json(path, identity)


def work_folder(output: Path, split: str) -> Path:
    """Where a conversion keeps what it needs to resume."""
    return output / f".{split}-work"


def check_unfinished(output: Path, split: str, retry: bool) -> None:
    """Refuses to write over a finished conversion, whose work folder is cleared if a kill left it.

    Raises:
        ValueError: it is finished, and nothing is to be retried.
    """
    finished, work = manifest_path(output, split), work_folder(output, split)
    if finished.is_file() and (work / "finished").is_file():
        shutil.rmtree(work)
    if finished.is_file() and not retry:
        raise ValueError(
            f"{finished} says that this conversion is finished; pass retry (--retry) to try again what was left out, "
            "or name another output folder"
        )


def convert(source: Source, output: Path, settings: ConvertSettings, retry: bool = False) -> dict[str, Any]:
    """Writes ``output/SPLIT-NNNNN.parquet`` (or ``.tar``) and ``output/SPLIT-manifest.json``.

    Every shard is written whole or not at all, and the state is saved behind each: the same call after a kill at any
    moment ends with the same shards as a run that was never killed. Records without a usable image are listed with
    their reason in ``output/SPLIT-left_out.jsonl``.

    Args:
        source: what to convert.
        output: folder of the shards.
        settings: see :class:`ConvertSettings`.
        retry: of a finished conversion, try the images again that were left out, and append what is found.

    Returns:
        The manifest.

    Raises:
        ValueError: the folder holds another conversion, nothing could be converted, or a fault was found with
            ``on_bad="raise"``.
    """
    with writing(output):
        return _convert(source, output, settings, retry)


def _convert(source: Source, output: Path, settings: ConvertSettings, retry: bool) -> dict[str, Any]:
    work, finished = work_folder(output, settings.split), manifest_path(output, settings.split)
    left_out = output / f"{settings.split}-left_out.jsonl"
    check_unfinished(output, settings.split, retry)
    work.mkdir(exist_ok=True)
    _check_same_run(work, {**settings.of_result(), "source": source.name, "revision": source.revision, "retry": retry})
    state = _State.load(work / "state.json") if (work / "state.json").is_file() else _State()
    before = None
    if retry:
        if not finished.is_file():
            raise ValueError(f"there is nothing to retry: {finished} is not there; run without retry first")
        before = json.loads(finished.read_text(encoding="utf-8"))
        if not (work / "state.json").is_file():
            state.shards = [ShardInfo(**shard) for shard in before["shards"]]
            state.images.kept.update(before["images"]["kept"])
    if (planned := ShardPlan.load(work / "plan")) is None:
        report = Report(settings.on_bad)
        planned_source = _left_out_source(source, left_out) if retry else source
        try:
            plan = ShardPlan.build(work / "plan", planned_source, settings.seed, report)
        except ValueError:
            (work / "settings.json").unlink()  # nothing is begun: the next call may have other settings
            raise
    else:
        plan, report = planned
    if retry and state.done == 0:
        state.images.kept["records tried"] -= plan.pictures()  # they come again
    _write(plan, source, output, work, settings, state)
    if not state.shards:
        shutil.rmtree(work)  # the same call begins anew
        reasons = report.problems + state.images.problems
        raise ValueError(
            f"nothing of {source.name} could be converted; {plan.drafts:,} records were tried"
            + "".join(
                f"; {reason}: {count:,}, e.g. {places[0]}"
                for reason, count in reasons.most_common(3)
                if (places := report.examples.get(reason) or state.images.examples.get(reason))
            )
        )
    annotations = before["annotations"] if before else report.as_dict()
    with replacing(left_out) as part:
        shutil.copyfile(work / "left_out.jsonl", part)
    write_manifest(
        output,
        settings.split,
        state.shards,
        source=source.name,
        revision=source.revision,
        settings=settings.of_result(),
        annotations=annotations,
        images=state.images.as_dict(),
    )
    (work / "finished").touch()
    shutil.rmtree(work)
    return json.loads(finished.read_text(encoding="utf-8"))


def _left_out_source(source: Source, left_out: Path) -> Source:
    def drafts(report: Report) -> Iterator[Draft]:
        with open(left_out, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)["draft"]

    return Source(source.name, source.revision, drafts, source.images, left_out.stat().st_size, source.release)
