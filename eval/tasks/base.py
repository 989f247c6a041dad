"""What a task is, and how tasks are found by name."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from eval.images import ImageSource
from eval.results import Result
from fgclip.fields import build

if TYPE_CHECKING:
    from datasets import Dataset

    from eval.embed import Embedder

TASKS: dict[str, type[Task]] = {}


@dataclasses.dataclass
class Benchmark(ABC):
    """Knows its files and options, and reads them.

    A subclass is a dataclass whose fields are its options; unknown options are refused.

    Attributes:
        data: folder below which the files are looked for.
    """

    name: ClassVar[str]
    wants: ClassVar[str]  # the files and their layout, and where to download them; printed when one is missing
    # What the Hub calls such a task, in the results of a model card; most choose among captions or class names.
    hub_task: ClassVar[str] = "zero-shot-image-classification"
    columns: ClassVar[str] = ""  # what `hub` data sets must hold

    data: Path = Path()

    @abstractmethod
    def load(self) -> Any:
        """Read the annotations (not the images), and whatever else decides: names, prompts.

        Raises:
            ValueError: files are missing or malformed.
        """

    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults, for the record; `data` is a place, not a setting."""
        return {
            field.name: str(value) if isinstance(value := getattr(self, field.name), Path) else value
            for field in dataclasses.fields(self)
            if field.name != "data" and getattr(self, field.name) != field.default
        }

    def path(self, *candidates: str | Path, what: str) -> Path:
        """The first candidate (relative to `data`) that exists.

        Raises:
            ValueError: none does; says what was looked for, what the task wants and where to get it.
        """
        tried = [self.data / candidate for candidate in candidates if str(candidate)]
        for path in tried:
            if path.exists():
                return path
        hub = "\nOr read it from the Hub: option hub=REPOSITORY." if self.columns else ""
        raise ValueError(f"task {self.name}: no {what}; looked for {', '.join(map(str, tried))}.\n{self.wants}{hub}")


@dataclasses.dataclass
class Task(Benchmark):
    """A benchmark that is scored from embeddings.

    Attributes:
        hub: a data set to read instead, by `datasets.load_dataset`: a Hub repository or a local folder.
        hub_config, split: its configuration and split.
    """

    needs_regions: ClassVar[bool] = False  # whether `score` asks for region features

    hub: str = ""
    hub_config: str = ""
    split: str = "test"

    def check(self, data: Any) -> None:
        """Refuse what no score could be made of, before anything is embedded.

        Args:
            data: what `load` returned.
        Raises:
            ValueError: such as a box outside its image, or a row with nothing to choose from.
        """

    @abstractmethod
    def images_of(self, data: Any) -> list[ImageSource]:
        """Every image that `score` will open, so that missing files are found before anything is computed."""

    @abstractmethod
    def score(self, embedder: Embedder, data: Any) -> Result:
        """Embed and score what `load` read."""

    def checked(self, embedder: Embedder) -> Any:
        """What `load` reads, once it is known that it makes sense, that the images are there and that the model can do it.

        Raises:
            ValueError: files are missing or malformed, or a model without region features.
        """
        if self.needs_regions:
            embedder.region_settings()
        data = self.load()
        self.check(data)
        check_images(self, self.images_of(data), embedder.allow_missing)
        return data

    def run(self, embedder: Embedder, data: Any = None) -> Result:
        """Embed and score.

        Args:
            data: what `checked` returned; None calls it.
        Raises:
            ValueError: as `checked`, and what only decoding shows.
        """
        from eval.identity import digest_of

        data = self.checked(embedder) if data is None else data
        parts = data if hasattr(self, "subsets") else {"": data}
        digests = {name: digest_of([part, self._choices()], portable=True) for name, part in parts.items()}
        embedder.begin()
        result = self.score(embedder, data)
        result.settings = embedder.settings() | result.settings | {"options": self.options()}
        missing = sum(not image.exists() for image in embedder.unreadable)
        result.data |= {"images_missing": missing, "images_corrupt": len(embedder.unreadable) - missing}
        for name, part in parts.items():
            images = set(self.images_of({name: part} if name else part))
            left_out = sorted(digest_of(image, portable=True) for image in embedder.unreadable & images)
            result.data_digests[name] = digest_of([digests[name], left_out])
        return result

    def _choices(self) -> dict[str, Any]:
        """The options that choose among what `load` read, such as which caption; places and sources are not among them."""
        sources = ("hub", "hub_config", "split", "subsets", "names", "templates")
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in sources and not isinstance(getattr(self, field.name), Path)
        }

    def hub_rows(self, required: Sequence[str]) -> Dataset:
        """The rows of `hub`, map-style; a column "image" as stored, so that reading a row decodes nothing.

        Raises:
            ValueError: no such data set, configuration or split; a column is missing; "image" holds no images.
        """
        from datasets import Image, load_dataset

        try:
            rows = load_dataset(self.hub, self.hub_config or None, split=self.split)
        except Exception as error:  # not found, no network, no such split, files that are not what they are called
            raise ValueError(
                f"task {self.name}: the data set {self.hub!r} cannot be loaded (hub_config {self.hub_config!r}, split {self.split!r}): "
                f"{error}. It must be a repository of the Hub or a folder that `datasets.load_dataset` reads."
            ) from None
        absent = [column for column in required if column not in rows.column_names]
        if absent:
            raise ValueError(
                f"task {self.name}: {self.hub} has the columns {', '.join(rows.column_names)}; "
                f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing. {self.columns}"
            )
        if "image" in required:
            if not isinstance(rows.features["image"], Image):
                raise ValueError(
                    f"task {self.name}: the column image of {self.hub} is {rows.features['image']}; "
                    "it must be of the type Image. Cast it before you publish the data set."
                )
            rows = rows.cast_column("image", Image(decode=False))
        return rows


def register(task: type[Task]) -> type[Task]:
    """Class decorator: make a task available under its name."""
    TASKS[task.name] = task
    return task


def make_task(name: str, options: Mapping[str, Any], tasks: Mapping[str, type[Benchmark]] = TASKS) -> Any:
    """A task of a registry from its name and options; strings are converted to the fields' types.

    Raises:
        ValueError: an unknown task or option, or a value of the wrong type.
    """
    if name not in tasks:
        raise ValueError(f"unknown task {name!r}; there are: {', '.join(sorted(tasks))}.")
    return build(tasks[name], options, f"task {name}")


def check_images(task: Benchmark, images: Sequence[ImageSource], allow_missing: bool | None) -> int:
    """Count missing images before anything is computed.

    Args:
        allow_missing: whether some may be missing; None where the user has no such choice.
    Raises:
        ValueError: some are missing and `allow_missing` is off, or all are.
    """
    missing = [image for image in dict.fromkeys(images) if not image.exists()]
    total = len(set(images))
    if missing and (not allow_missing or len(missing) == total):
        shown = ", ".join(str(image.path) for image in missing[:3])
        raise ValueError(
            f"task {task.name}: {len(missing)} of {total} images are missing (the first: {shown}).\n{task.wants}"
            + (
                ""
                if len(missing) == total or allow_missing is None
                else "\nOr pass --allow_missing to compute on the rest."
            )
        )
    return len(missing)


def require_some(task: Task, valid: np.ndarray) -> None:
    """Refuse to score nothing.

    Raises:
        ValueError: no row is left.
    """
    if not valid.any():
        raise ValueError(f"task {task.name}: none of its {len(valid)} rows could be read.\n{task.wants}")
