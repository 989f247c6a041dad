"""Batches from a stream of records, addressed by epoch and place, so that Trainer resumes them like any others."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from dataset_scripts.streaming import TrainingStream

Place = tuple[int, int]  # epoch, batch of it


class CountedDraws(IterableDataset):
    """A stream whose records carry a `draw` of their own, from which the collator takes its randomness.

    The stream's own draw is the pass it is in; a record that weights draw several times in a pass would be cropped and
    flipped alike each time.
    """

    def __init__(self, stream: TrainingStream):
        self.stream = stream
        self.count = 0
        self._resumed = False

    def set_epoch(self, epoch: int) -> None:
        self._resumed = self._resumed and epoch == self.stream.epoch
        self.stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._resumed:
            self.count = 0
        self._resumed = False
        worker = get_worker_info()
        slot = f"{self.stream.rank}.{worker.id if worker else 0}"
        for record in self.stream:
            self.count += 1
            yield {**record, "draw": f"{record['draw']}.{slot}.{self.count}"}

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "stream": self.stream.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state["stream"])
        self.count, self._resumed = state["count"], True


class StreamBatches(Dataset):
    """Batches by their place. What can be asked for is the next one, the first of an epoch, or that of a loaded state.

    Args:
        stream: of this rank.
        batch_size: records a batch; a worker's incomplete last one is left out.
        collate: from records to a batch.
        num_workers, settings: of the `StatefulDataLoader`.
    """

    def __init__(
        self, stream: TrainingStream, batch_size: int, collate: Callable, num_workers: int = 0, **settings: Any
    ) -> None:
        self.stream, self.batch_size, self.workers = stream, batch_size, max(num_workers, 1)
        self.records = CountedDraws(stream)
        self.loader = StatefulDataLoader(
            self.records, batch_size, num_workers=num_workers, collate_fn=collate, drop_last=True, **settings
        )
        self._batches: Iterator[Any] | None = None
        self._next: Place | None = None

    def __len__(self) -> int:
        """Records an epoch, of all ranks."""
        return len(self.stream) * self.stream.world_size

    def batches_per_epoch(self) -> int:
        """Of this rank, and so of every one. Each worker fills its own batches from its share of the records.

        Raises:
            ValueError: no worker can fill a batch.
        """
        sizes = [0] * self.workers
        for source in self.stream.sources:
            records = -(-sum(shard.records for shard in source) // self.stream.world_size)
            for worker in range(self.workers):
                sizes[worker] += (worker + 1) * records // self.workers - worker * records // self.workers
        batches = sum(size // self.batch_size for size in sizes)
        if not batches:
            raise ValueError(
                f"The stream gives each of {self.stream.world_size} processes {len(self.stream)} records an epoch, which "
                f"{self.workers} workers share: none of them fills a batch of {self.batch_size}. Lower "
                "per_device_train_batch_size or dataloader_num_workers, or add data."
            )
        return batches

    def __getitem__(self, place: Place) -> Any:
        epoch, number = place
        if place != self._next:
            if number:
                raise ValueError(
                    f"Batch {number} of epoch {epoch} of a stream was asked for, and there is no state to begin there. "
                    "Resume from a checkpoint of a streaming run with the same data, batch size and accumulation."
                )
            self.records.set_epoch(epoch)
            self._batches = None
        if self._batches is None:
            self._batches = iter(self.loader)
        self._next = (epoch, number + 1)
        return next(self._batches)

    def state_dict(self) -> dict[str, Any]:
        return {"next": list(self._next or (0, 0)), "workers": self.workers, "loader": self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the batch after the last one given before :meth:`state_dict` the one that can be asked for.

        Raises:
            ValueError: the state is of other data, another seed, or another number of ranks or workers.
        """
        if state["workers"] != self.workers:
            raise ValueError(
                f"The checkpoint is of a run with dataloader_num_workers {state['workers']}, this one has {self.workers}: "
                "a stream is divided among the workers, so resume with the same number."
            )
        self._next, self._batches = tuple(state["next"]), None
        self.loader.load_state_dict(state["loader"])
        # Begun at once, so that nothing of the state is left over when the next epoch begins instead.
        self._batches = iter(self.loader)


class Places(Sampler[list[Place]]):
    """The places of an epoch in their order, without end for an endless stream."""

    def __init__(self, batches: StreamBatches):
        self.length = None if batches.stream.is_endless else batches.batches_per_epoch()
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("an endless stream has no length; pass max_steps")
        return self.length

    def __iter__(self) -> Iterator[list[Place]]:
        number = 0
        while self.length is None or number < self.length:
            yield [(self.epoch, number)]
            number += 1


class StreamDataLoader(DataLoader):
    """What Trainer sees of a stream: a loader that counts, skips without reading, and knows its state."""

    def __init__(
        self, stream: TrainingStream, batch_size: int, collate: Callable, num_workers: int = 0, **settings: Any
    ):
        batches = StreamBatches(stream, batch_size, collate, num_workers, **settings)
        # The workers are those of the inner loader; this one hands on what it gives.
        super().__init__(batches, batch_sampler=Places(batches), collate_fn=_only, num_workers=0)

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dataset.load_state_dict(state)


def _only(batches: list[Any]) -> Any:
    (batch,) = batches
    return batch
