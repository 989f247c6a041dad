"""The order in which records go into shards: shuffled over the whole data set, in constant memory.

Every draft goes into one of many bucket files by a hash of its picture's name; a bucket is small enough to be sorted in
memory. The order depends on the names and the seed alone, and the drafts of one picture meet in one bucket.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset_scripts.atomic import write_json
from dataset_scripts.convert.source import Draft, Source, picture_of
from dataset_scripts.progress import progress_bar
from dataset_scripts.report import Report
from dataset_scripts.units import UnitCheck

_BUCKET_BYTES = 8 << 20
_BUFFER_BYTES = 64 << 20  # over all buckets, before they are written


def _rank(picture: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{picture}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def distinct(drafts: list[Draft], report: Report) -> list[Draft]:
    """Those of one picture, which become one record; a mere copy of one is a fault."""
    kept: dict[str, Draft] = {}
    report.keep("records tried")
    for draft in drafts:
        if (text := json.dumps(draft)) in kept:
            report.keep("records tried")
            report.bad("record is repeated", draft["source_id"])
        kept.setdefault(text, draft)
    if len(kept) > 1:
        report.keep("records joined to another one of their picture", len(kept) - 1)
    return list(kept.values())


@dataclass
class ShardPlan:
    """Bucket files in a folder."""

    folder: Path
    buckets: int
    drafts: int
    seed: int

    def _path(self, bucket: int) -> Path:
        return self.folder / f"{bucket:06d}.jsonl"

    def bucket(self, number: int) -> list[list[Draft]]:
        """The pictures of one bucket in their final order, each with its drafts in the order of the source."""
        path = self._path(number)
        if not path.is_file():
            return []
        pictures: dict[str, list[Draft]] = defaultdict(list)
        with open(path, encoding="utf-8") as file:
            for line in file:
                draft = json.loads(line)
                pictures[picture_of(draft)].append(draft)
        return [pictures[name] for name in sorted(pictures, key=lambda name: (_rank(name, self.seed), name))]

    def pictures(self) -> int:
        """How many there are, in all buckets."""
        return sum(len(self.bucket(number)) for number in range(self.buckets))

    def from_position(self, bucket: int, offset: int) -> Iterator[tuple[int, int, list[Draft]]]:
        """The drafts of each picture from a position on, and the position behind it."""
        for number in range(bucket, self.buckets):
            pictures = self.bucket(number)
            for index in range(offset, len(pictures)):
                after = (number, index + 1) if index + 1 < len(pictures) else (number + 1, 0)
                yield *after, pictures[index]
            offset = 0

    def _shared(self, names: array, pictures: array) -> list[str]:
        """Each ``source_id`` that stands for different pictures; of all drafts the hashes of name and picture are given."""
        found, of = np.frombuffer(names, np.uint64), np.frombuffer(pictures, np.uint64)
        order = np.argsort(found, kind="stable")
        found, of = found[order], of[order]
        shared = set(found[1:][(found[1:] == found[:-1]) & (of[1:] != of[:-1])].tolist())
        if not shared:
            return []
        drafts = (draft for number in range(self.buckets) for group in self.bucket(number) for draft in group)
        texts = (draft["source_id"] for draft in drafts)
        return sorted({text for text in texts if _rank(text, self.seed) in shared})

    @classmethod
    def load(cls, folder: Path) -> tuple[ShardPlan, Report] | None:
        """A finished plan and the counts of the annotations, or None."""
        path = folder / "plan.json"
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = cls(folder, content["buckets"], content["drafts"], content["seed"])
        return plan, Report.from_dict(content["report"])

    @classmethod
    def build(
        cls, folder: Path, source: Source, seed: int, report: Report, captioned: bool = True, limit: int | None = None
    ) -> ShardPlan:
        """Reads all drafts of the source once. An unfinished plan in the folder is begun anew.

        Args:
            captioned: whether a draft needs a caption; those without are counted.
            limit: the first so many drafts; None for all.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plan = cls(folder, max(1, -(-source.annotation_bytes // _BUCKET_BYTES)), 0, seed)
        waiting: dict[int, list[str]] = defaultdict(list)
        names, pictures = array("Q"), array("Q")
        units: dict[str, UnitCheck] = defaultdict(UnitCheck)
        size = 0

        def flush() -> None:
            for number, lines in waiting.items():
                with open(plan._path(number), "a", encoding="utf-8") as file:
                    file.writelines(lines)
            waiting.clear()

        drafts = itertools.islice(source.drafts(report), limit)
        for draft in progress_bar(drafts, desc="reading annotations", unit="record"):
            if captioned and draft["caption"] is None and not draft["short_captions"]:
                report.bad("record without a caption", str(draft["source_id"]))
                continue
            line = None
            with report.entry(str(draft["source_id"])):
                draft["source_id"].encode()  # a shard holds UTF-8
                line = json.dumps(draft) + "\n"  # a row of the Hub may hold what no JSON does
                if "box_format" in draft and isinstance(draft["regions"], list):
                    for info in draft["regions"]:
                        units[draft["box_format"]].add(
                            info.get("bbox") if isinstance(info, dict) else None, draft["box_format"]
                        )
            if line is None:
                continue
            picture = _rank(picture_of(draft), seed)
            names.append(_rank(draft["source_id"], seed))
            pictures.append(picture)
            waiting[picture % plan.buckets].append(line)
            plan.drafts += 1
            size += len(line)
            if size > _BUFFER_BYTES:
                flush()
                size = 0
        flush()
        for name in plan._shared(names, pictures):
            report.bad("source_id of several pictures", name)
        for box_format, check in units.items():
            check.refuse(box_format, source.name)
        content = {"buckets": plan.buckets, "drafts": plan.drafts, "seed": seed, "report": report.as_dict()}
        write_json(folder / "plan.json", content)
        return plan
