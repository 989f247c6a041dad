"""The input of a run: any source of `dataset_scripts.own_data`, cut once into units of one shard each.

A unit is a file with the drafts of its pictures; any process can read it, if it is given the source of the images.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dataset_scripts.convert.plan import ShardPlan, distinct
from dataset_scripts.convert.source import Draft, Source, record_of
from dataset_scripts.image_stores import ImageStore
from dataset_scripts.images import CheckedImage, check_image
from dataset_scripts.own_data.columns import Columns
from dataset_scripts.own_data.kinds import KINDS, open_source
from dataset_scripts.prefetch import prefetch
from dataset_scripts.report import Report


@dataclass
class InputSettings:
    """What the input is.

    `kind` is one of `dataset_scripts.own_data.kinds`, or auto. `columns` gives for image, caption, short_caption,
    source_id, regions, width, height and box_format the name of a column, for data whose columns may be called anything.
    `options` are what else the kind takes, such as `images` of COCO. `limit` reads only the first so many entries.
    """

    kind: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.kind != "auto" and self.kind not in KINDS:
            raise ValueError(f"input.kind is {self.kind!r}; it must be auto or one of {', '.join(KINDS)}.")
        unknown = set(self.columns) - {field.name for field in dataclasses.fields(Columns)}
        if unknown:
            raise ValueError(f"input.columns names {sorted(unknown)}, which a record does not have.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"input.limit is {self.limit}; it must be 1 or more records.")

    def open(self, place: str) -> Source:
        """The source at a place.

        Raises:
            ValueError: nothing of the kind is there.
        """
        columns = Columns(**{"caption": None, **self.columns}) if self.columns else None
        return open_source(self.kind, place, columns, self.options)


@dataclass(frozen=True)
class Unit:
    """A file with the drafts of one shard's pictures, a line for each, and how many there are."""

    path: str
    size: int


def plan_units(
    source: Source, folder: Path, shard_size: int, limit: int | None, seed: int
) -> tuple[list[Unit], Report]:
    """The units of the input, and what reading the annotations counted.

    Pictures come in an order of the seed; entries of one picture are together. A folder left by a kill is begun anew.

    Raises:
        ValueError: the source holds nothing usable.
    """
    shutil.rmtree(folder, ignore_errors=True)
    report = Report()
    plan = ShardPlan.build(folder / "drafts", source, seed, report, captioned=False, limit=limit)
    pictures = (drafts for _, _, drafts in plan.from_position(0, 0))
    units: list[Unit] = []
    while part := list(islice(pictures, shard_size)):
        path = folder / f"{len(units):06d}.jsonl"
        path.write_text("".join(json.dumps(drafts) + "\n" for drafts in part), encoding="utf-8")
        units.append(Unit(str(path), len(part)))
    shutil.rmtree(folder / "drafts")
    if not units:
        raise ValueError(f"the input {source.name} holds no record that could be used: {dict(report.problems)}")
    return units, report


def read_unit(unit: Unit, images: ImageStore, report: Report) -> Iterator[dict[str, Any]]:
    """Records of one unit with checked image bytes; what cannot be used is counted in `report`."""
    with open(unit.path, encoding="utf-8") as file:
        pictures: list[list[Draft]] = [json.loads(line) for line in file]

    def load(drafts: list[Draft]) -> CheckedImage:
        return check_image(images.read(drafts[0]["image"]))

    for drafts, image in prefetch(pictures, load, images.readers):
        record, _ = record_of(distinct(drafts, report), image.result, report)
        if record is not None:
            yield record
