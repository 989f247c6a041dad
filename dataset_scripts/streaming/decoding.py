"""From the rows of shards to records with decoded images; what is unusable is counted, and logged where it is met."""

from __future__ import annotations

import logging
from typing import Any

from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.streaming.shard_files import LostRecord, ShardPath

logger = logging.getLogger(__name__)

Row = dict[str, Any] | LostRecord
_LOGGED = 20  # faults of a kind


class Decoder:
    """Decodes rows; a faulty record is counted once by a process, however often it comes round.

    Args:
        report: of the stream; its policy decides whether a fault is an error.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self._seen: set[str] = set()

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

    def __call__(self, row: Row) -> dict[str, Any] | None:
        """The record of the schema; None if it is lost or its image cannot be decoded.

        Raises:
            ValueError: with ``on_bad="raise"``.
        """
        if isinstance(row, LostRecord):
            if not row.known:
                self._fault("record cannot be read", row.where, row.reason)
            return None
        try:
            return FEATURES.decode_example(row)
        except Exception as error:  # PIL's parsers raise nearly anything on damaged bytes
            self._fault("image cannot be decoded", str(row.get("source_id")), error)
            return None

    def _fault(self, reason: str, where: str, received: object) -> None:
        if (key := f"{reason} {where}") in self._seen:
            return
        self.report.bad(reason, where, received)
        self._seen.add(key)
        if self.report.problems[reason] <= _LOGGED:
            logger.warning("left out: %s in %s: %s", reason, where, received)
