"""Loading that refuses a checkpoint which does not hold what its model needs.

transformers fills what is missing with fresh random weights, drops what it does not know, and goes on with a warning.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

# What other tools put before every name, and who does.
WRAPPERS = {
    "module.": "torch's DistributedDataParallel, DeepSpeed",
    "_orig_mod.": "torch.compile",
    "model.": "a training class with the model as an attribute",
}
# Buffers that old versions of transformers stored; they hold 0, 1, 2, ….
STORED_BUFFER = "position_ids"
# Arguments of `from_pretrained` that say where its files lie.
_PLACE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class UnsoundCheckpoint(ValueError):
    """A checkpoint that does not hold what its model needs."""


class CheckedLoading:
    """Mixin whose `from_pretrained` looks at what was loaded.

    Attributes:
        may_lack: the sets of tensors that a sound checkpoint may lack, each as a whole; `_init_weights` makes them.
    """

    may_lack: tuple[frozenset[str], ...] = ()

    @classmethod
    def from_pretrained(cls, checkpoint: Any, *args: Any, **kwargs: Any) -> Any:
        """`PreTrainedModel.from_pretrained`, which also refuses an unsound checkpoint.

        Raises:
            UnsoundCheckpoint: a ValueError, for tensors that are missing, unexpected, of another shape or not finite; for a missing shard;
                and for a single weights file beside the index of a sharded one.
        """
        return load_checked(super().from_pretrained, checkpoint, *args, may_lack=cls.may_lack, **kwargs)


def load_checked(
    load: Callable[..., Any], checkpoint: Any, *args: Any, may_lack: Collection[frozenset[str]] = (), **kwargs: Any
) -> Any:
    """Calls a class's `from_pretrained` and refuses an unsound checkpoint; see [`CheckedLoading`].

    Args:
        load: `from_pretrained` of a model or an Auto class.
        checkpoint: folder or Hub id; None for weights in memory (`state_dict=`).
        may_lack: see [`CheckedLoading`].
        args, kwargs: passed on.
    """
    wants_info = kwargs.pop("output_loading_info", False)
    any_shape = kwargs.pop("ignore_mismatched_sizes", False)
    if checkpoint is not None:
        _check_files(checkpoint, kwargs)
    # Mismatched shapes are reported below, together with everything else.
    with _without_report():
        model, info = load(checkpoint, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    source = "The given weights" if checkpoint is None else str(checkpoint)
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    lacking = min((missing - set(known) for known in ((), *may_lack) if missing.issuperset(known)), key=len)
    unknown = {name for name in unexpected if not name.endswith(STORED_BUFFER)}
    shapes = [] if any_shape else info["mismatched_keys"]
    prefix = common_prefix(missing, unknown)
    if prefix is not None:
        writer = f", as {WRAPPERS[prefix]} writes them" if prefix in WRAPPERS else ""
        raise UnsoundCheckpoint(
            f"All {len(unknown)} tensor names of {source} begin with {prefix!r}{writer} ({listed(unknown, 2)}). Strip it "
            f"(FG-CLIP and CLIP): `python -m modeling_fgclip.convert {source} --strip-prefix {prefix} --output FIXED`."
        )
    problems = [
        f"{what}: {listed(names)} ({len(names)} in all)"
        for what, names in {
            "it lacks": lacking,
            "it has besides": unknown,
            "of another shape than the configuration says": [_shape_of(entry) for entry in shapes],
        }.items()
        if names
    ]
    if problems:
        raise UnsoundCheckpoint(
            f"{source} does not hold what {type(model).__name__} needs; {'; '.join(problems)}. Take the whole checkpoint, "
            "and the configuration that was saved with it."
        )
    check_finite(model, source)
    return (model, info) if wants_info else model


def check_finite(model: nn.Module, source: str) -> None:
    """Looks through all weights once.

    Raises:
        UnsoundCheckpoint: for a NaN or an infinity, naming the tensors.
    """
    broken = [name for name, tensor in model.state_dict().items() if _is_plain(tensor) and not tensor.isfinite().all()]
    if broken:
        raise UnsoundCheckpoint(
            f"{source} holds NaN or infinity in {listed(broken)}: its training diverged, or the file is damaged. Take an "
            "earlier checkpoint."
        )


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first names, and … for the rest."""
    names = sorted(names)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


@contextmanager
def _without_report() -> Iterator[None]:
    """Without transformers' table of names, which says that they "can be ignored"."""

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _is_plain(tensor: Any) -> bool:
    """Not quantized, not offloaded."""
    if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
        return False
    return type(tensor) in (torch.Tensor, nn.Parameter) and tensor.is_floating_point()


def _shape_of(entry: Any) -> str:
    name, stored, wanted = entry
    return f"{name} ({tuple(stored)} stored, {tuple(wanted)} wanted)"


def common_prefix(missing: Collection[str], unknown: Collection[str]) -> str | None:
    """The prefix without which all unknown names would be among the missing ones; None if there is none."""
    if not unknown:
        return None
    first = min(unknown)
    for name in sorted(missing, key=len, reverse=True):
        prefix = first.removesuffix(name)
        if prefix not in ("", first) and all(
            found.startswith(prefix) and found.removeprefix(prefix) in missing for found in unknown
        ):
            return prefix
    return None


def _check_files(checkpoint: Any, kwargs: dict[str, Any]) -> None:
    if kwargs.get("state_dict") is not None or kwargs.get("gguf_file") is not None:
        return
    place = {name: kwargs[name] for name in _PLACE if kwargs.get(name) is not None}
    variant = f".{kwargs['variant']}" if kwargs.get("variant") else ""

    def find(name: str) -> str | None:
        return cached_file(
            str(checkpoint),
            name,
            **place,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )

    # model.safetensors.index.json, with a variant model.safetensors.index.VARIANT.json
    stem, _, suffix = SAFE_WEIGHTS_INDEX_NAME.rpartition(".")
    index = find(f"{stem}{variant}.{suffix}")
    if index is None:
        return
    stem, _, suffix = SAFE_WEIGHTS_NAME.rpartition(".")
    single = f"{stem}{variant}.{suffix}"
    if find(single) is not None:
        raise UnsoundCheckpoint(
            f"{checkpoint} holds {single} beside {Path(index).name}: two sets of weights, and the single file would be "
            "loaded. Remove the one that is stale (the older one), or save into an empty folder."
        )
    if Path(checkpoint).is_dir():
        shards = set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values())
        absent = sorted(name for name in shards if not (Path(index).parent / name).is_file())
        if absent:
            raise UnsoundCheckpoint(
                f"{checkpoint} lacks {listed(absent)}, {len(absent)} of the {len(shards)} files that {Path(index).name} "
                "names. Copy or download the whole checkpoint."
            )


__all__ = ["CheckedLoading", "UnsoundCheckpoint", "check_finite", "common_prefix", "listed", "load_checked"]
