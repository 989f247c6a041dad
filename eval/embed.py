"""Images, regions and texts → normalized float32 embeddings: batched, deduplicated, cached, on any number of processes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from dataset_scripts.atomic import replacing
from dataset_scripts.progress import progress_bar
from eval.adapters.base import Inputs, ModelAdapter
from eval.arguments import PRECISIONS
from eval.host_memory import give_back_memory, settle_memory
from eval.identity import digest_of
from eval.images import Boxes, ImageSource, UnreadableImage, clip_boxes
from eval.loading import default_workers, prepared_batches
from eval.together import failing_together
from modeling_fgclip.threads import in_threads

logger = logging.getLogger(__name__)

SHARD_BATCHES = 8  # batches a unit of work: what one process takes at a time and what one cache file holds
# An accelerator would wait for the host with 256 short texts that are packed; long and padded ones have more tokens.
TEXT_BATCH, PACKED_TEXT_BATCH = 256, 2048
IMAGE_BATCH, IMAGE_BATCH_ON_CPU = 64, 8  # a CPU is faster while a block's activations stay in its caches


def process_state() -> PartialState:
    """accelerate's view of the processes; also on several CPU processes, which it takes for one unless told.

    Raises:
        ValueError: started as one of several processes, but already set up as a single one.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    state = PartialState(cpu=True) if several and not torch.accelerator.is_available() else PartialState()
    if several and state.num_processes == 1:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but accelerate was set up for one process; every process would do all "
            "the work. On CPUs start with `accelerate launch --cpu --multi_gpu …` or torchrun, and create no PartialState before."
        )
    return state


class Embedder:
    """Runs one model over the data of all tasks.

    A batch holds the same items whatever the number of processes, so one process and many give the same numbers.

    Args:
        adapter: the model.
        batch_size: images a batch; None takes 64 on an accelerator and 8 on a CPU.
        num_workers: loading processes, where the system can fork them (not on Windows); None takes `default_workers`.
        precision: "float32" or "bfloat16" (autocast; features are float32 afterwards). float16 overflows in CLIP's
            activations and is refused.
        region_features: "dense" (RoIAlign over dense features) or "crop" (each box as an image of its own).
        cache_dir: keep embeddings there; a run that was killed goes on where it stopped.
        allow_missing: leave out images that are missing or broken and count them, instead of failing.
        distributed: share the work among accelerate's processes; False when only one of them calls.
        progress: show progress bars (on the main process).
    Raises:
        ValueError: an unknown precision or kind of region features, or dense features from a model that has none.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        batch_size: int | None = None,
        num_workers: int | None = 0,
        precision: str = "float32",
        region_features: str = "dense",
        cache_dir: str | os.PathLike | None = None,
        allow_missing: bool = False,
        distributed: bool = True,
        progress: bool = True,
        device: str | torch.device | None = None,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
        if region_features not in ("dense", "crop"):
            raise ValueError(f"region_features must be dense or crop; got {region_features!r}.")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        self.state = process_state()
        self.distributed = distributed and self.state.num_processes > 1
        self.adapter = adapter
        self.precision, self.region_kind, self.allow_missing = precision, region_features, allow_missing
        self.device = torch.device(device) if device is not None else self.state.device
        on_cpu = self.device.type == "cpu"
        settle_memory()
        self.batch_size = batch_size or (IMAGE_BATCH_ON_CPU if on_cpu else IMAGE_BATCH)
        self.num_workers = default_workers(self.device) if num_workers is None else num_workers
        self.progress = progress and (self.state.is_main_process or not distributed)
        self.cache_dir = Path(cache_dir) if cache_dir is not None else None
        # Since a task began: images left out, and batches that were computed or came from the cache.
        self.unreadable: set[ImageSource] = set()
        self.batches = {"computed": 0, "cached": 0}
        self._texts: dict[tuple[str, str, bool], Tensor] = {}
        self._forget_texts_over = 400_000  # × 768 floats ≈ 1.2 GB
        adapter.model.to(self.device).eval()

    def settings(self) -> dict[str, Any]:
        """What moves a number: the model's settings and this embedder's, and the commit of a model from the Hub."""
        commit = getattr(getattr(self.adapter.model, "config", None), "_commit_hash", None)
        return self.adapter.settings() | {"precision": self.precision} | ({"commit": commit} if commit else {})

    @functools.cached_property
    def fingerprint(self) -> str:
        """The model and what precedes it, hashed once."""
        return self.adapter.fingerprint()

    def run_identity(self, options: Mapping[str, Any], data: Any) -> str:
        """Equal for two runs exactly if model, weights, settings, the task's options and its data are.

        Args:
            options: of the task. data: what its `load` returned.
        """
        parts = [
            self.fingerprint,
            self.precision,
            self.region_kind,
            repr(sorted(options.items())),
            str(self.allow_missing),
            digest_of(data),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def region_settings(self) -> dict[str, Any]:
        """How region features are made."""
        kind = (
            self.adapter.dense_kind
            if self.region_kind == "dense"
            else "each box cropped and resized, whole-image feature"
        )
        if kind is None:
            raise ValueError(f"{self.adapter.name} has no region features from dense maps; use region_features=crop.")
        return {"region_features": self.region_kind, "region_features_made_by": kind}

    def begin(self) -> None:
        """A task begins: forget what the one before left out."""
        self.unreadable = set()
        self.batches = {"computed": 0, "cached": 0}

    # -- texts

    def kind_of_text(self, kind: str) -> str:
        """The kind as which the model reads it."""
        return kind if self.adapter.distinguishes(kind) else "short"

    def texts(self, texts: Sequence[str], kind: str = "short", as_written: bool = False) -> Tensor:
        """(len(texts), D) embeddings; every distinct text is encoded once, also across tasks.

        Args:
            kind: "short", "long" or "region"; where the model knows no difference, the texts are short ones.
            as_written: leave upper-case letters to the model's tokenizer, as some protocols do.

        Raises:
            ValueError: an empty text.
        """
        kind = self.kind_of_text(kind)
        distinct = list(dict.fromkeys(texts))
        empty = [i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
        if empty:
            raise ValueError(
                f"{len(empty)} texts are empty (the first: item {empty[0]}, {texts[empty[0]]!r}); correct the annotations."
            )
        if len(self._texts) > self._forget_texts_over:
            self._texts.clear()
        new = [text for text in distinct if (text, kind, as_written) not in self._texts]
        # Texts of alike lengths in a batch leave little to pad, texts of alike beginnings much to share.
        new.sort(key=lambda text: (0 if self.adapter.shares_prefixes else len(text), text))
        are_many = self.device.type != "cpu" and self.adapter.shares_prefixes and kind != "long"
        size = PACKED_TEXT_BATCH if are_many else TEXT_BATCH
        batches = [new[i : i + size] for i in range(0, len(new), size)]

        def encode(tokens: Inputs) -> Tensor:
            return self.adapter.encode_texts(tokens, kind)

        tokenize = self.adapter.tokenize_as_written if as_written else self.adapter.tokenize
        identities = [repr((kind, b)) + " as written" * as_written for b in batches]
        unit = SHARD_BATCHES * TEXT_BATCH // size
        features = self._run("texts", batches, lambda batch: tokenize(batch, kind), encode, identities, unit)
        self._texts.update({(text, kind, as_written): row for text, row in zip(new, features, strict=True)})
        return torch.stack([self._texts[text, kind, as_written] for text in texts]) if texts else torch.empty(0, 0)

    # -- images and regions

    def images(self, images: Sequence[ImageSource], for_classes: bool = False) -> tuple[Tensor, np.ndarray]:
        """Whole images.

        Args:
            for_classes: as they are prepared for class names (ImageNet), where some models take another size.
        Returns:
            (N, D) embeddings, and (N,) bool: which images could be read (all, unless `allow_missing`).
        """
        batches = [list(images[i : i + self.batch_size]) for i in range(0, len(images), self.batch_size)]

        def prepare(batch: list[ImageSource]) -> tuple[Inputs | None, Tensor]:
            opened = in_threads(self._open, batch)
            found = [image for image in opened if image is not None]
            inputs = None
            if found:
                adapter = self.adapter
                inputs = (
                    adapter.preprocess_for_classes(found) if for_classes else adapter.preprocess(found, squash=False)
                )
            return inputs, torch.tensor([image is not None for image in opened])

        def encode(inputs: Inputs) -> Tensor:
            return self.adapter.encode_images(inputs)

        identities = ["for classes " * for_classes + _identities(b) for b in batches]
        features = self._run("images", batches, prepare, encode, identities)
        valid = ~torch.isnan(features[:, 0]).numpy()
        self.unreadable |= {image for image, readable in zip(images, valid, strict=True) if not readable}
        return features, valid

    def regions(self, images: Sequence[ImageSource], boxes: Sequence[Boxes]) -> tuple[Tensor, np.ndarray, int]:
        """Boxes of images, each image opened and encoded once.

        Args:
            images: N sources.
            boxes: the boxes of each.
        Returns:
            (ΣK, D) embeddings in the order of `boxes`, (ΣK,) bool which could be read, and how many boxes were clipped
            to their image.
        Raises:
            ValueError: an empty, inverted, NaN or wholly outside box.
        """
        self.region_settings()
        normalized, clipped = clip_boxes([b.normalized() for b in boxes], [_name(image) for image in images])
        counts = np.array([len(b) for b in normalized], dtype=np.int64)
        used = np.flatnonzero(counts)
        used = used[np.argsort(-counts[used], kind="stable")]  # alike numbers of boxes share a batch
        items = [(images[i], normalized[i]) for i in used]
        batches = [items[i : i + self.batch_size] for i in range(0, len(items), self.batch_size)]
        identities = [
            self.region_kind + _identities([i for i, _ in b]) + repr([a.tobytes() for _, a in b]) for b in batches
        ]
        dense = self.region_kind == "dense"
        prepare = self._prepare_dense if dense else self._prepare_crops
        encode = self._encode_dense if dense else self._encode_crops
        features = self._run("regions", batches, prepare, encode, identities)  # in the order of `used`
        starts = np.concatenate([[0], np.cumsum(counts)])
        order = (
            np.concatenate([np.arange(starts[i], starts[i + 1]) for i in used]) if len(used) else np.empty(0, np.int64)
        )
        back = torch.empty_like(features)
        back[torch.from_numpy(order)] = features
        valid = ~torch.isnan(back[:, 0]).numpy() if len(back) else np.empty(0, bool)
        self.unreadable |= {images[i] for i in np.unique(np.repeat(np.arange(len(images)), counts)[~valid])}
        return back, valid, clipped

    def _open(self, source: ImageSource) -> Image.Image | None:
        try:
            return source.open()
        except UnreadableImage as error:
            if self.allow_missing:
                return None
            raise ValueError(f"{error}. Restore the file, or pass allow_missing to compute on the rest.") from None

    def _prepare_dense(self, batch: list) -> tuple[tuple[Inputs, Tensor, Tensor] | None, Tensor]:
        opened = in_threads(self._open, [source for source, _ in batch])
        readable = torch.tensor([image is not None for image in opened])
        counts = torch.tensor([len(array) for _, array in batch])
        found = [i for i, image in enumerate(opened) if image is not None]
        if not found:
            return None, readable.repeat_interleave(counts)
        boxes = torch.zeros(len(found), int(counts[found].max()), 4)
        for row, i in enumerate(found):
            boxes[row, : counts[i]] = torch.from_numpy(batch[i][1])
        inputs = self.adapter.preprocess([opened[i] for i in found], squash=True)
        return (inputs, boxes, counts[found]), readable.repeat_interleave(counts)

    def _encode_dense(self, prepared: tuple[Inputs, Tensor, Tensor]) -> Tensor:
        inputs, boxes, counts = prepared
        regions = self.adapter.encode_regions(inputs, boxes)  # (N, K, D)
        return torch.cat([row[: int(count)] for row, count in zip(regions, counts, strict=True)])

    def _prepare_crops(self, batch: list) -> tuple[Inputs | None, Tensor]:
        crops, readable = [], []
        for source, array in batch:
            image = self._open(source)
            readable += [image is not None] * len(array)
            for box in array if image is not None else ():
                x1, y1, x2, y2 = box * np.array([image.width, image.height, image.width, image.height])
                left, top = int(np.floor(x1)), int(np.floor(y1))
                crops.append(image.crop((left, top, max(left + 1, int(np.ceil(x2))), max(top + 1, int(np.ceil(y2))))))
        return (self.adapter.preprocess(crops, squash=True) if crops else None), torch.tensor(readable)

    def _encode_crops(self, inputs: Inputs) -> Tensor:
        count = len(next(iter(inputs.values())))
        parts = [{k: v[i : i + self.batch_size] for k, v in inputs.items()} for i in range(0, count, self.batch_size)]
        return torch.cat([self.adapter.encode_images(part) for part in parts])

    # -- the loop

    def _run(
        self,
        kind: str,
        batches: Sequence[Any],
        prepare: Callable,
        encode: Callable,
        identities: Sequence[str],
        unit: int = SHARD_BATCHES,
    ) -> Tensor:
        """Encode batches, `unit` of them at a time, this process its share; returns all rows, NaN where an image was unreadable."""
        shards = [list(range(i, min(i + unit, len(batches)))) for i in range(0, len(batches), unit)]
        rank, world = (self.state.process_index, self.state.num_processes) if self.distributed else (0, 1)
        mine, done = [], {}
        for number in range(rank, len(shards), world):
            path = self._cache_path(kind, [identities[i] for i in shards[number]])
            loaded = _load(path)
            # Rows of broken images that an earlier run was allowed to leave out: computed again, which names the image.
            if loaded is None or (loaded.isnan().any() and not self.allow_missing):
                mine.append((number, path))
            else:
                done[number] = loaded
            self.batches["computed" if number not in done else "cached"] += len(shards[number])
        todo = [batches[i] for number, _ in mine for i in shards[number]]
        loader = prepared_batches(todo, prepare, self.num_workers, self.device)
        stream = iter(
            progress_bar(loader, desc=kind, unit="batch", disable=not self.progress or len(loader) < 2, leave=False)
        )
        # Autocast forgets the cast weights when its outermost context ends: this one, which casts nothing, outlasts the batches.
        with failing_together(self.distributed), self._autocast(enabled=False):
            for number, path in mine:
                rows = _stack([self._encode(kind, next(stream), encode) for _ in shards[number]])
                if path is not None:
                    _save(path, rows)
                done[number] = rows
        if self.device.type == "cpu":
            give_back_memory()
        if self.distributed:
            done = dict(gather_object(list(done.items())))
        return _stack([done[number] for number in range(len(shards))])

    def _encode(self, kind: str, prepared: Any, encode: Callable) -> Tensor:
        inputs, readable = (prepared, None) if kind == "texts" else prepared
        if inputs is None:
            return torch.full((len(readable), 1), torch.nan)
        with torch.no_grad(), self._autocast():
            features = normalize(encode(_to(inputs, self.device)).float(), dim=-1).cpu()
        if not torch.isfinite(features).all():
            raise ValueError(
                f"{self.adapter.name} gave NaN or infinite {kind} features; its weights are broken or the precision overflows."
            )
        if readable is None or readable.all():
            return features
        rows = torch.full((len(readable), features.shape[1]), torch.nan)
        rows[readable] = features
        return rows

    def _autocast(self, enabled: bool = True) -> contextlib.AbstractContextManager:
        dtype = {"float32": None, "bfloat16": torch.bfloat16}[self.precision]
        return torch.autocast(self.device.type, dtype, enabled) if dtype is not None else contextlib.nullcontext()

    def _cache_path(self, kind: str, identities: Sequence[str]) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256("\0".join([self.fingerprint, self.precision, kind, *identities]).encode()).hexdigest()
        return self.cache_dir / kind / f"{digest[:32]}.safetensors"


def _stack(pieces: Sequence[Tensor]) -> Tensor:
    """Rows of all pieces; a piece of unreadable images alone does not know the width and is NaN throughout."""
    if not pieces:
        return torch.empty(0, 0)
    width = max(piece.shape[1] for piece in pieces)
    return torch.cat([p if p.shape[1] == width else p.new_full((len(p), width), torch.nan) for p in pieces])


def _identities(images: Sequence[ImageSource]) -> str:
    return "\0".join(image.identity() for image in images)


def _name(source: ImageSource) -> str:
    return str(getattr(source, "path", None) or f"row {getattr(source, 'index', '?')}")


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(_to(item, device) for item in value)
    if isinstance(value, Mapping):
        return {name: _to(item, device) for name, item in value.items()}
    return value


def _load(path: Path | None) -> Tensor | None:
    if path is None or not path.exists():
        return None
    try:
        return load_file(path)["rows"]
    except (SafetensorError, KeyError, OSError) as error:
        logger.warning("cache file %s is unusable (%s); its rows are computed again", path, error)
        return None


def _save(path: Path, rows: Tensor) -> None:
    with replacing(path) as part:
        save_file({"rows": rows.contiguous()}, part)
