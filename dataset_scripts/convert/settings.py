"""How shards are written; apart from the work, so that a command line knows the defaults and imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dataset_scripts.report import OnBad, Report

if TYPE_CHECKING:
    from dataset_scripts.shards import ShardFormat


@dataclass(frozen=True)
class ConvertSettings:
    """How shards are written; a run that resumes must have the same."""

    split: str = "train"
    shard_format: ShardFormat = "parquet"
    shard_size: int = 2000  # records; every shard has as many, the last one what is left
    seed: int = 0  # of the order
    on_bad: OnBad = "skip"
    workers: int = 16  # threads that read, fetch and decode; not part of the result

    def __post_init__(self) -> None:
        if not self.split.isidentifier():
            raise ValueError(f"split is {self.split!r}; it must be a word such as 'train'")
        if self.shard_size < 1 or self.workers < 1:
            raise ValueError(f"shard_size is {self.shard_size} and workers {self.workers}; both must be at least 1")
        Report(self.on_bad)

    def of_result(self) -> dict[str, Any]:
        """What the bytes of the shards depend on."""
        return {name: value for name, value in asdict(self).items() if name != "workers"}
