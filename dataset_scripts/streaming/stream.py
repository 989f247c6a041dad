"""A stream of training records for one rank, with a state from which it goes on exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from dataset_scripts.report import OnBad, Report
from dataset_scripts.streaming.decoding import Decoder
from dataset_scripts.streaming.endless import AnnotationFile, Cursor, EndlessSource
from dataset_scripts.streaming.even import epoch_length, even_records
from dataset_scripts.streaming.shard_files import ShardPath

_VERSION = 1


class TrainingStream(IterableDataset):
    """Decoded records of the schema with ``draw``, the number of the pass they are seen in, for augmentation seeds.

    Works in a DataLoader with any number of workers and in torchdata's ``StatefulDataLoader``, whose ``state_dict`` and
    ``load_state_dict`` make a run go on after a kill with the very next record.

    Even: all sources are shards of known size. An epoch ends after ``len(stream)`` records, the same number on every
    rank; :meth:`set_epoch` begins another, in another order. Endless: a source is a published layout. The stream never
    ends, and training needs ``max_steps``.

    Args:
        sources: shards or annotation files of each source.
        weights: how much of the records each source gives; None: every record of every source once an epoch.
        seed: of every order.
        rank, world_size: which of how many processes this is.
        on_bad: of shards: ``"skip"`` counts, lists and logs what is cut or damaged and goes on, with other records in
            the places of those lost; ``"raise"`` stops at the first fault with a ValueError.

    Attributes:
        report: shards found damaged when they were listed, and what this process met since, an annotation file's faults
            when it is read to its end. The workers of a DataLoader have reports of their own; what they meet they log.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[ShardPath] | Sequence[AnnotationFile]],
        weights: Sequence[float] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        on_bad: OnBad = "skip",
    ) -> None:
        super().__init__()
        self.report = Report(on_bad)
        self._decode = Decoder(self.report)
        for file in (file for source in sources for file in source):
            if isinstance(file, ShardPath) and file.damage:
                self._decode.announce(file)
        listed, sources = sources, [[file for file in source if getattr(file, "records", 1)] for source in sources]
        if not sources or not all(sources):
            names = [files[0].path for files, usable in zip(listed, sources, strict=True) if files and not usable]
            raise ValueError(
                f"received {len(sources)} sources, of which some are empty{f', such as {names[0]}' if names else ''}; "
                "each needs at least one record"
            )
        if weights is not None and (len(weights) != len(sources) or min(weights) <= 0):
            raise ValueError(f"weights is {weights}; one number above 0 is needed for each of {len(sources)} sources")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank} of {world_size}; it must be from 0 to world_size - 1")
        self.sources = sources
        self.is_endless = any(isinstance(file, AnnotationFile) for source in sources for file in source)
        if self.is_endless and weights is None and len(sources) > 1:
            raise ValueError(
                "weights is None, and a source in the published layout is among several: how many records it holds is "
                "not known, so that weights are needed; or convert it with python -m dataset_scripts.convert"
            )
        self.weights = list(weights) if weights is not None else None
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self._position = 0  # records given by this worker, in this epoch where the stream has epochs
        self._cursors: list[Cursor] | None = None
        self._resumed = False

    def set_epoch(self, epoch: int) -> None:
        """Another order for the next iteration; a position loaded by :meth:`load_state_dict` in it is kept."""
        if epoch != self.epoch and not self.is_endless:
            self._position, self._resumed = 0, False
        self.epoch = epoch

    def __len__(self) -> int:
        """Records of one epoch on this rank.

        Raises:
            TypeError: the stream is endless.
        """
        if self.is_endless:
            raise TypeError("an endless stream has no length; pass max_steps")
        return epoch_length(self.sources, self.world_size)

    def _slot(self) -> tuple[int, int, int, int]:
        worker = get_worker_info()
        return self.rank, self.world_size, worker.id if worker else 0, worker.num_workers if worker else 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._resumed and not self.is_endless:
            self._position = 0
        self._resumed = False
        for record, draw in self._endless() if self.is_endless else self._even():
            yield {**record, "draw": draw}

    def _even(self) -> Iterator[tuple[dict[str, Any], int]]:
        epoch = self.epoch
        for record in even_records(
            self.sources, self.weights, self.seed, self._slot(), epoch, self._position, self._decode
        ):
            self._position += 1
            yield record, epoch

    def _endless(self) -> Iterator[tuple[dict[str, Any], int]]:
        slot = self._slot()
        sources = [
            EndlessSource(files, (self.seed, number), slot, self._decode) for number, files in enumerate(self.sources)
        ]
        if self._cursors is None:
            self._cursors = [Cursor() for _ in sources]
        streams = [source.records(cursor) for source, cursor in zip(sources, self._cursors, strict=True)]
        share = np.cumsum(self.weights or [1.0]) / np.sum(self.weights or [1.0])
        while True:
            # One number from (seed, slot, draw) and no generator state, so that any draw can be returned to.
            turn = np.random.default_rng([self.seed, slot[0], slot[2], self._position]).random()
            number = min(int(np.searchsorted(share, turn, side="right")), len(streams) - 1)
            self._position += 1
            record = next(streams[number])
            yield record, self._cursors[number].cycle

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready; of one worker of one rank."""
        return {
            "version": _VERSION,
            "epoch": self.epoch,
            "position": self._position,
            "cursors": [asdict(cursor) for cursor in self._cursors] if self._cursors else None,
            "of": self._identity(),
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "rank, processes, worker, workers": list(self._slot()),
            "weights": self.weights,
            "sizes": [sum(getattr(file, "records", 1) for file in source) for source in self.sources],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration go on behind the last record given before :meth:`state_dict`.

        Raises:
            ValueError: the state is of other data, another seed, other weights, another rank or worker.
        """
        if state.get("version") != _VERSION or state["of"] != self._identity():
            raise ValueError(
                f"the state is of a stream with {state.get('of')}, this one has {self._identity()}; resume with the same "
                "data, weights, seed and numbers of processes and workers"
            )
        self.epoch, self._position = state["epoch"], state["position"]
        self._cursors = [Cursor(**cursor) for cursor in state["cursors"]] if state["cursors"] else None
        self._resumed = True
