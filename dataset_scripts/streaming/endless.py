"""Annotation files whose number of usable records nobody knows before reading: each worker goes round without end.

Steps are equal on all ranks because no rank ever runs out; training on such a stream needs ``max_steps``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from dataset_scripts.annotations import read_annotation_file
from dataset_scripts.image_stores import ImageStore
from dataset_scripts.report import OnBad, Report
from dataset_scripts.streaming.decoding import Decoder, Row
from dataset_scripts.streaming.even import BLOCK
from dataset_scripts.streaming.shard_files import ShardPath


@dataclass(frozen=True)
class AnnotationFile:
    """One file of ``jsonfiles/`` and where its images are."""

    path: str
    images: ImageStore
    on_bad: OnBad = "skip"
    storage_options: dict[str, Any] = field(default_factory=dict)

    def numbered(self, start: int, stride: int, report: Report) -> Iterator[tuple[int, dict[str, Any]]]:
        """Records with their numbers, from ``start`` on, every ``stride``-th; images are decoded by the caller alone."""
        yield from read_annotation_file(
            self.path, self.images, report, self.storage_options, start, stride, decode=False
        )


def _numbered(
    file: AnnotationFile | ShardPath, first: int, start: int, stride: int, decode: Decoder
) -> Iterator[tuple[int, Row]]:
    if isinstance(file, AnnotationFile):
        report = Report(file.on_bad)
        yield from file.numbered(start, stride, report)
        if start == first:  # and not resumed in the middle
            decode.add(report, file.path)
        return
    for begin in range(start, file.records, BLOCK):
        for number, row in enumerate(file.read(begin, min(begin + BLOCK, file.records)), begin):
            if (number - start) % stride == 0:
                yield number, row


@dataclass
class Cursor:
    """Where one worker is in one source."""

    cycle: int = 0  # rounds through the worker's files
    file: int = 0  # in the order of this round
    record: int = 0  # at which the current block begins
    in_block: int = 0  # records of the current block already given


class EndlessSource:
    """The part of one data set that one worker reads, round after round, each in another order of files and blocks.

    With at least as many files as workers over all ranks, a file is read by one worker in a round. With fewer, all
    workers read all files and take turns in their records.
    """

    def __init__(
        self,
        files: Sequence[AnnotationFile | ShardPath],
        seed: Sequence[int],
        slot: tuple[int, int, int, int],
        decode: Decoder,
    ) -> None:
        rank, world_size, worker, workers = slot
        self.files, self.seed, self.decode = list(files), tuple(seed), decode
        self.slot, self.slots = rank * workers + worker, world_size * workers
        self.shares_files = len(self.files) < self.slots

    def _order(self, cycle: int) -> list[int]:
        order = np.random.default_rng([*self.seed, cycle]).permutation(len(self.files)).tolist()
        return order if self.shares_files else order[self.slot :: self.slots]

    def records(self, cursor: Cursor) -> Iterator[dict[str, Any]]:
        """Records from the cursor on, which moves along: at every yield it points behind the record yielded."""
        stride, first = (self.slots, self.slot) if self.shares_files else (1, 0)
        empty_cycles = 0
        while empty_cycles < 2:
            order, found = self._order(cursor.cycle), False
            while cursor.file < len(order):
                start, file = max(cursor.record, first), self.files[order[cursor.file]]
                rows = _numbered(file, first, start, stride, self.decode)
                while block := list(itertools.islice(rows, BLOCK)):
                    order_in_block = np.random.default_rng([*self.seed, cursor.cycle, order[cursor.file], block[0][0]])
                    for index in order_in_block.permutation(len(block))[cursor.in_block :]:
                        cursor.in_block += 1
                        number, row = block[index]
                        if (record := self.decode(row, f"{PurePosixPath(file.path).name}[{number}]")) is not None:
                            found = True
                            yield record
                    cursor.record, cursor.in_block = block[-1][0] + stride, 0
                cursor.file, cursor.record = cursor.file + 1, 0
            cursor.cycle, cursor.file = cursor.cycle + 1, 0
            empty_cycles = 0 if found else empty_cycles + 1
        raise ValueError(
            f"no usable record in {len(self.files)} files such as {self.files[0].path}; see the warnings for reasons"
        )
