"""From the rows of shards to records that passed the gate, images decoded; faults are counted, and logged where met."""

from __future__ import annotations

import logging
from typing import Any

from dataset_scripts.records import clean_row
from dataset_scripts.report import Report
from dataset_scripts.streaming.shard_files import LostRecord, ShardPath, StoredRow
from modeling_fgclip.pixels import BadImage, to_rgb

logger = logging.getLogger(__name__)

Row = StoredRow | LostRecord | dict[str, Any]  # the last one has passed the gate
_LOGGED = 20  # faults of a kind


class Decoder:
    """Judges and decodes rows; a faulty record is counted once by a process, however often it comes round.

    Args:
        report: of the stream; its policy decides whether a fault is an error.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self._seen: set[int] = set()
        self._own = Report(report.on_bad)  # of the record at hand

    def announce(self, shard: ShardPath) -> None:
        """Counts a shard that was found damaged when it was listed, and its lost records.

        Raises:
            ValueError: with ``on_bad="raise"``.
        """
        lost = shard.records - (shard.readable or 0)
        damage = f"{lost:,} records lost; {shard.damage}" if lost else shard.damage
        self._fault("shard is cut or damaged", f"{shard.name}[{shard.readable}]", damage)
        self.report.problems["record lost with its shard"] += lost
        self.report.examples.setdefault("record lost with its shard", []).append(f"{lost} of {shard.name}")

    def __call__(self, row: Row, where: str = "") -> dict[str, Any] | None:
        """The record of the schema; None if it is lost, unusable, or its image cannot be decoded.

        Args:
            row: as it was read.
            where: names its place, where it does not do so itself.

        Raises:
            ValueError: with ``on_bad="raise"``.
        """
        record = self.judged(row)
        if record is None:
            return None
        try:
            return {**record, "image": to_rgb(record["image"]["bytes"])}
        except BadImage as error:
            self.undecodable(row, record, error, where)
            return None

    def judged(self, row: Row) -> dict[str, Any] | None:
        """The record with its image still encoded; None if it is lost or unusable.

        Raises:
            ValueError: with ``on_bad="raise"``.
        """
        if isinstance(row, LostRecord):
            if not row.known:
                self._fault("record cannot be read", row.where, row.reason)
            return None
        if isinstance(row, dict):
            return row
        record = clean_row(row.values, row.where, self._own)
        if self._own.problems:
            self._count(self._own, row.where)
            self._own = Report(self.report.on_bad)
        return record

    def undecodable(self, row: Row, record: dict[str, Any], error: BadImage, where: str = "") -> None:
        """Counts a record whose image no decoder reads.

        Raises:
            ValueError: with ``on_bad="raise"``.
        """
        where = row.where if isinstance(row, StoredRow) else where
        self._fault(error.reason, f"{where} {record['source_id']}".lstrip(), error)

    def add(self, report: Report, file: str) -> None:
        """Adds what was found in a file of annotations, unless it was before."""
        if report.problems:
            self._count(report, file)

    def _fault(self, reason: str, where: str, received: object) -> None:
        own = Report(self.report.on_bad)
        own.bad(reason, where, received)
        self._count(own, f"{reason} {where}")

    def _count(self, own: Report, key: str) -> None:
        """Adds what was found in one record, unless it was before."""
        if (mark := hash(key)) in self._seen:
            return
        self._seen.add(mark)
        own.kept.clear()
        self.report.merge(own)
        for reason, places in own.examples.items():
            if self.report.problems[reason] <= _LOGGED:
                logger.warning("left out: %s in %s", reason, places[0])
