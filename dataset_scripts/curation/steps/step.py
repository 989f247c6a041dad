"""What a step says of itself. Recipe, stages and engines know steps by this alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from ..models.chat import Chat
    from ..models.messages import ChatSettings


class Survey(Protocol):
    """Something counted over the whole data set before a step runs; shards count on their own and are merged."""

    def merge(self, other: Survey) -> None: ...

    def to_dict(self) -> dict[str, Any]: ...


class Step(ABC):
    """A function from batch to batch, columns to columns, without a change of the rows or of what it was given.

    `reads` are the columns without which the step has nothing to do: each must be in the input or be written by a step
    before; "regions.negatives" is a field of regions. One of several will do where they stand in a tuple. `failures`
    collects reasons as "STEP: reason".
    """

    Settings: ClassVar[type]
    reads: ClassVar[tuple[str | tuple[str, ...], ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    images: ClassVar[bool] = False  # the batch has the decoded `image`
    large: ClassVar[bool] = False  # holds a model that fills a machine, so one process is enough
    asks: ClassVar[str] = ""  # what a request is about, where there is a chat: "record" or "region"

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.chat: Chat | None = None
        self.counts: Counter[str] = Counter()  # numbers for the report; the engine empties it before each shard

    @abstractmethod
    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The batch with the columns that the step writes."""

    @classmethod
    def chat_settings(cls, settings: Any) -> ChatSettings | None:
        """The model that is asked with these settings."""
        return None

    @classmethod
    def survey(cls, settings: Any) -> tuple[str, type[Survey]] | None:
        """Name and type of what has to be counted first; the type is made of the dictionary that it gives.

        A step with one has ``count(batch)``, which returns what a batch adds, and gets the whole as ``surveyed``.
        """
        return None

    @classmethod
    def report(cls, settings: Any, annotations: list[Path], seed: int) -> dict[str, Any]:
        """What the finished run's report says beside the counts, from the shards of annotations behind the last step."""
        return {}
