"""Which rows come together: of one modality and of like length, the same for any number of processes."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class ModalityBatches(Sampler[list[int]]):
    """Batches of one rank, grouped as LLaVA's `group_by_modality_length` groups them.

    The rows of a whole optimization step are drawn at random among those with an image or among those without. Within
    the step they are sorted by length, so that a batch has little padding, and dealt in turns, so that all ranks have
    as much to do. Ranks see images in the same batches: engines that shard weights wait for each other in every
    module. What is left over of both kinds makes a mixed step if it suffices; the incomplete rest is left out of this
    epoch.

    Args:
        has_image, lengths: of each row.
        batch_size: rows a rank and batch.
        accumulation: batches a step.
        seed, rank, world_size: the order depends on the seed and the epoch alone.

    Raises:
        ValueError: there are fewer rows than one step takes.
    """

    def __init__(
        self,
        has_image: Sequence[bool],
        lengths: Sequence[int],
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.has_image, self.lengths = has_image, lengths
        self.together, self.accumulation = batch_size * world_size, accumulation
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        if not len(self):
            raise ValueError(
                f"There are {len(lengths)} rows, fewer than a step of {accumulation} batches of {batch_size} on each of "
                f"{world_size} processes takes of one kind. Lower per_device_train_batch_size or "
                "gradient_accumulation_steps, or add data."
            )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        step, images = self.together * self.accumulation, sum(map(bool, self.has_image))
        texts = len(self.lengths) - images
        rest = self._even(images % step) + texts % step
        return (images // step + texts // step + rest // step) * self.accumulation

    def _even(self, images: int) -> int:
        """Of so many rows those of which each rank gets as many."""
        return images // self.world_size * self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        step = self.together * self.accumulation
        steps, rest = [], []
        for kind in (True, False):
            rows = [row for row, has in enumerate(self.has_image) if bool(has) is kind]
            rows = [rows[place] for place in torch.randperm(len(rows), generator=generator).tolist()]
            whole = len(rows) // step * step
            steps += [rows[start : start + step] for start in range(0, whole, step)]
            left = rows[whole:]
            rest += left[: self._even(len(left))] if kind else left
        if len(rest) >= step:
            steps.append(rest[:step])
        for place in torch.randperm(len(steps), generator=generator).tolist():
            yield from self._dealt(steps[place])

    def _dealt(self, rows: list[int]) -> Iterator[list[int]]:
        rows = sorted(rows, key=lambda row: (not self.has_image[row], -self.lengths[row], row))
        for start in range(0, len(rows), self.together):
            yield rows[start : start + self.together][self.rank :: self.world_size]
