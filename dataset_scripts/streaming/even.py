"""Shards of known size, divided so that every rank has equally many records, shuffled, resumable at any record.

Everything is a function of (seed, epoch, rank, worker, position), so that the state is two numbers. ``datasets``
streams the same shards, but ranks get unequal numbers of records where shards are uneven or do not divide by the
ranks, its buffer shuffle forgets what is buffered when it resumes, and mixed sources cannot be cut at a common epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dataset_scripts.streaming.decoding import Decoder, Row
from dataset_scripts.streaming.shard_files import ShardPath

BLOCK = 256  # records that are read together and shuffled among themselves
_ATTEMPTS = 100  # runs elsewhere in which to look for records that take the places of lost ones


class EvenSource:
    """The part of one data set that one worker of one rank reads.

    An epoch is a random order of the shards, laid end to end; ranks and their workers take equal runs of it, so most
    shards are read by one worker alone, and within a run, blocks of records are shuffled. Where the records do not
    divide by the ranks, at most ``world_size - 1`` of them come twice.

    The place of a lost or unusable record is taken by another one from a random place of the data set. So the number of
    steps stays that of the manifest on all ranks, also where only one has a damaged copy, and when a shard is mended.

    Args:
        shards: of the data set.
        seed: of the order.
        slot: (rank, world_size, worker, workers).
        decode: of rows, with the policy for faults.
    """

    def __init__(
        self, shards: Sequence[ShardPath], seed: Sequence[int], slot: tuple[int, int, int, int], decode: Decoder
    ) -> None:
        self.shards, self.seed, self.decode = list(shards), tuple(seed), decode
        self.total = sum(shard.records for shard in shards)
        rank, world_size, worker, workers = slot
        per_rank = -(-self.total // world_size)
        self.first = rank * per_rank + worker * per_rank // workers
        self.size = rank * per_rank + (worker + 1) * per_rank // workers - self.first
        if self.size == 0:
            raise ValueError(
                f"a source has {self.total} records for {world_size} processes with {workers} workers each; every worker "
                "needs at least one: use fewer workers (dataloader_num_workers)"
            )

    def _rows(self, order: np.ndarray, start: int, stop: int) -> Iterator[Row]:
        """Records at the positions ``start`` to ``stop`` of the shards in this order; the end wraps to the start."""
        ends = np.cumsum([self.shards[index].records for index in order])
        while start < stop:
            place = start % self.total
            number = int(np.searchsorted(ends, place, side="right"))
            before = int(ends[number]) - self.shards[order[number]].records
            count = min(stop - start, int(ends[number]) - place)
            yield from self.shards[order[number]].read(place - before, place - before + count)
            start += count

    def one_pass(self, number: int, offset: int) -> Iterator[dict[str, Any]]:
        """The run of this worker in pass ``number`` from its record ``offset`` on."""
        order = np.random.default_rng([*self.seed, number]).permutation(len(self.shards))
        for begin in range(offset // BLOCK * BLOCK, self.size, BLOCK):
            end = min(begin + BLOCK, self.size)
            rows = list(self._rows(order, self.first + begin, self.first + end))
            shuffled = np.random.default_rng([*self.seed, number, self.first + begin]).permutation(len(rows))
            spare = self._spare_rows(order, (number, self.first + begin), len(rows))
            for index in shuffled[max(offset - begin, 0) :].tolist():
                yield self._usable(rows[index], index, spare)

    def _spare_rows(self, order: np.ndarray, block: tuple[int, int], length: int) -> Callable[[int], list[Row]]:
        """Runs of ``length`` rows, by the number of the attempt, from which to fill the gaps of a block."""
        starts = np.random.default_rng([*self.seed, *block, 1]).integers(self.total, size=_ATTEMPTS).tolist()
        return lru_cache(2)(lambda attempt: list(self._rows(order, starts[attempt], starts[attempt] + length)))

    def _usable(self, row: Row, index: int, spare: Callable[[int], list[Row]]) -> dict[str, Any]:
        record = self.decode(row)
        for attempt in range(_ATTEMPTS):
            if record is not None:
                return record
            record = self.decode(spare(attempt)[index])
        raise ValueError(
            f"no usable record was found in {_ATTEMPTS} places of {len(self.shards)} shards such as "
            f"{self.shards[0].path}; python -m dataset_scripts.validate says what is wrong with them"
        )

    def records(self, epoch: int, per_epoch: int, offset: int) -> Iterator[dict[str, Any]]:
        """The records for an epoch that draws ``per_epoch`` of them, from draw ``offset`` on, without end.

        Draws go on from one epoch to the next through the passes, so that a source of which an epoch sees only a part
        is seen whole in time.
        """
        drawn = epoch * per_epoch + offset
        number, place = divmod(drawn, self.size)
        for pass_number in itertools.count(number):
            yield from self.one_pass(pass_number, place)
            place = 0


def draws_per_source(sizes: Sequence[int], weights: Sequence[float] | None, total: int) -> list[int]:
    """How many of an epoch's ``total`` records come from each source: in proportion, summing up exactly."""
    if weights is None:
        return list(sizes)
    share = np.asarray(weights, dtype=float) / np.sum(weights) * total
    counts = np.floor(share).astype(int)
    for index in np.argsort(counts - share, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    return counts.tolist()


def even_records(
    sources: Sequence[Sequence[ShardPath]],
    weights: Sequence[float] | None,
    seed: int,
    slot: tuple[int, int, int, int],
    epoch: int,
    position: int,
    decode: Decoder,
) -> Iterator[dict[str, Any]]:
    """One worker's records of an epoch from ``position`` on, drawn from several sources in a random order."""
    parts = [EvenSource(shards, (seed, number), slot, decode) for number, shards in enumerate(sources)]
    sizes = [part.size for part in parts]
    counts = draws_per_source(sizes, weights, sum(sizes))
    turns = np.repeat(np.arange(len(parts), dtype=np.int16), counts)
    turns = np.random.default_rng([seed, epoch, 1_000_003]).permutation(turns)
    done = np.bincount(turns[:position], minlength=len(parts))
    streams = [part.records(epoch, count, int(skip)) for part, count, skip in zip(parts, counts, done, strict=True)]
    for turn in turns[position:]:
        yield next(streams[turn])


def epoch_length(sources: Sequence[Sequence[ShardPath]], world_size: int) -> int:
    """Records of one epoch on each rank."""
    return sum(-(-sum(shard.records for shard in shards) // world_size) for shards in sources)
