"""What a task has read, as a digest: equal for two runs exactly if their annotations, prompts and images are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from eval.images import DatasetImage, ImageFile, ImageSource


def digest_of(value: Any, portable: bool = False) -> str:
    """A digest of whatever a task's `load` returns.

    Args:
        value: dataclasses, mappings, sequences, arrays, numbers, texts and image sources, nested at will.
        portable: an image counts by its name and size, or by its row and the size of its data set, so that two machines
            agree. Otherwise also by its place and the time of its last change, so that a file that was replaced is noticed.
    Returns:
        32 hexadecimal digits.
    Raises:
        TypeError: a value of another kind, which could change unnoticed.
    """
    digest = hashlib.sha256()
    for part in _parts(value, portable):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def _parts(value: Any, portable: bool) -> Iterator[bytes]:
    if isinstance(value, ImageFile) and portable:
        yield f"{value.path.name}:{value.path.stat().st_size if value.exists() else None}".encode()
    elif isinstance(value, DatasetImage) and portable:
        rows = value.dataset
        yield f"{rows.split}:{len(rows)}:{rows.info.dataset_size}:{value.index}:{value.column}".encode()
    elif hasattr(value, "identity"):
        source: ImageSource = value
        yield source.identity().encode()
    elif value is None or isinstance(value, (bool, int, float, str, Path, np.generic)):
        yield f"{type(value).__name__}:{value!r}".encode()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}:{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Tensor):
        yield f"{value.dtype}:{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, (set, frozenset)):
        yield from _parts(sorted(digest_of(item, portable) for item in value), portable)
    elif isinstance(value, Dataset):
        yield value._fingerprint.encode()
    elif isinstance(value, Mapping):
        yield f"mapping:{len(value)}".encode()
        for name, item in value.items():
            yield from _parts(name, portable)
            yield from _parts(item, portable)
    elif isinstance(value, (list, tuple)):
        yield f"sequence:{len(value)}".encode()
        for item in value:
            yield from _parts(item, portable)
    elif dataclasses.is_dataclass(value):
        yield type(value).__name__.encode()
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name), portable)
    else:
        raise TypeError(
            f"no digest of a {type(value).__name__}; give the task's data as dataclasses, lists and arrays."
        )
