"""Which record comes when: a pure function of seed, epoch and rank, so that any moment can be returned to."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainingArguments

from training.stopping import outlive_signals


class DrawnRecords(Dataset):
    """A map-style data set whose records know their draw, from which the collator takes its randomness."""

    def __init__(self, records: Any):
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        index, draw = key
        return {**self.records[index], "draw": draw}


class ShuffledBatches(Sampler[list[tuple[int, int]]]):
    """Batches of one rank: all records once an epoch in an order of their own, the incomplete rest left out.

    Args:
        size: records of the data set.
        batch_size: records a rank and batch.
        seed, rank, world_size: the order depends on the seed and the epoch; ranks take turns in it, so that the
            batches of all ranks together are the same for any number of ranks.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        if size < batch_size * world_size:
            raise ValueError(
                f"The data set has {size} records, fewer than one batch of {batch_size} on each of {world_size} "
                "processes. Lower per_device_train_batch_size or add data."
            )
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator)
        batches = order[: len(self) * self.batch_size * self.world_size].unflatten(
            0, (len(self), self.world_size, self.batch_size)
        )
        for batch in batches[:, self.rank].tolist():
            yield [(index, self.epoch) for index in batch]


class EpochDataLoader(DataLoader):
    """A DataLoader that hands the epoch on to its batch sampler, as Trainer expects of it."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


def loader_settings(args: TrainingArguments) -> dict[str, Any]:
    """What a DataLoader of any kind takes from a run's arguments."""
    workers = args.dataloader_num_workers
    return {
        "num_workers": workers,
        "prefetch_factor": args.dataloader_prefetch_factor if workers else None,
        "persistent_workers": bool(workers) and args.dataloader_persistent_workers,
        "pin_memory": args.dataloader_pin_memory and torch.cuda.is_available(),
        "worker_init_fn": outlive_signals,
    }


def epoch_loader(
    records: Any, args: TrainingArguments, collate: Callable[[list[dict[str, Any]]], Any]
) -> EpochDataLoader:
    """Batches of this rank from map-style records, in an order that depends on the seed and the epoch alone.

    Not handed to accelerate: the sampler shards.
    """
    batches = ShuffledBatches(
        len(records),
        args.train_batch_size,
        seed=args.data_seed if args.data_seed is not None else args.seed,
        rank=args.process_index,
        world_size=args.world_size,
    )
    return EpochDataLoader(DrawnRecords(records), batch_sampler=batches, collate_fn=collate, **loader_settings(args))
