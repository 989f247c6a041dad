"""Embeds a collection shard by shard to parquet, and builds a FAISS index of all of it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_scripts.atomic import replacing, write_text
from dataset_scripts.locking import writing
from dataset_scripts.progress import progress_bar
from eval.embed import Embedder
from eval.images import Boxes
from eval.search.source import Collection, slices
from modeling_fgclip.extras import missing_extra

SETTINGS_FILE = "settings.json"
INDEX_FILE = "index.faiss"
EMBEDDINGS = "embeddings"
WHOLE = [0.0, 0.0, 1.0, 1.0]
# In a shard's metadata: the digest of the images that it was made from.
DIGEST = b"fgclip.images"
# Largest share of the training vectors that an index which has to be trained (IVF, PQ) is shown.
TRAINING_VECTORS = 200_000


@dataclass(frozen=True)
class Summary:
    """What a run of `build` did; `changed_shards` were there, but some of their images are others now."""

    images: int
    unreadable: int
    embedded_now: int
    changed_shards: int
    vectors: int
    seconds: float


def build(
    collection: Collection,
    embedder: Embedder,
    output: str | Path,
    grid: int = 0,
    shard_size: int = 4096,
    index_type: str = "Flat",
) -> Summary:
    """Embeds what is not embedded yet and writes the index. Start it again after an interruption: it goes on.

    A shard some of whose images have changed, or could not be read and now can, is embedded again.

    Args:
        collection: images and their names.
        embedder: with `allow_missing`, broken images are counted and left out.
        output: folder for settings.json, embeddings/*.parquet and index.faiss.
        grid: also embed grid × grid boxes of each image, so that small things are found; 0 for whole images only.
        shard_size: images a parquet file, the unit that a restart does not repeat.
        index_type: for faiss.index_factory: "Flat" (exact) up to a few million vectors, "IVF4096,PQ64" beyond.

    Raises:
        ValueError: for a folder that holds embeddings made otherwise or that another command writes to, settings out of range, or without FAISS.
    """
    require_faiss()
    if grid < 0 or shard_size < 1:
        raise ValueError(f"grid must be at least 0 and shard_size at least 1; got {grid} and {shard_size}.")
    with writing(Path(output)):
        return _build(collection, embedder, Path(output), grid, shard_size, index_type)


def _build(
    collection: Collection, embedder: Embedder, output: Path, grid: int, shard_size: int, index_type: str
) -> Summary:
    _check_settings(output, _settings(collection, embedder, grid, shard_size))
    started, now, changed = time.perf_counter(), 0, 0
    shards = list(slices(len(collection.images), shard_size))
    bar = progress_bar(total=len(collection.images), desc="embedding", unit="image", disable=not embedder.progress)
    for number, (start, end) in enumerate(shards):
        path = output / EMBEDDINGS / f"{number:05d}.parquet"
        digest = collection.digest(start, end)  # before the images are read: a change meanwhile is noticed next time
        if not _is_current(path, digest):
            changed += path.exists()
            (output / INDEX_FILE).unlink(missing_ok=True)  # its rows are those of the shards until now
            table = _embed(collection, embedder, start, end, grid)
            _write(path, table.replace_schema_metadata({DIGEST: digest.encode()}))
            now += end - start
        bar.update(end - start)
    bar.close()
    seconds = time.perf_counter() - started
    vectors = _write_index(output, len(shards), index_type)
    readable = sum(len(np.unique(table["item"].to_numpy())) for table in read_shards(output, len(shards), ["item"]))
    return Summary(len(collection.images), len(collection.images) - readable, now, changed, vectors, seconds)


def _is_current(path: Path, digest: str) -> bool:
    """Whether a shard is there and made from these very images."""
    return path.exists() and (pq.read_schema(path).metadata or {}).get(DIGEST) == digest.encode()


def read_shards(output: Path, shards: int, columns: list[str] | None = None):
    """The parquet tables in order."""
    for number in range(shards):
        yield pq.read_table(output / EMBEDDINGS / f"{number:05d}.parquet", columns=columns)


def matrix_of(table: pa.Table) -> np.ndarray:
    """(rows, D) float32 embeddings of a shard."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().astype(np.float32).reshape(len(table), -1)


def require_faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ValueError(missing_extra("Search needs FAISS", "search")) from None
    return faiss


def _embed(collection: Collection, embedder: Embedder, start: int, end: int, grid: int) -> pa.Table:
    images = collection.images[start:end]
    items = np.arange(start, end)
    features, readable = embedder.images(images)
    kept, boxes, vectors = items[readable], [WHOLE] * int(readable.sum()), features.numpy()[readable]
    if grid and len(kept):
        cells = grid_boxes(grid)
        found = [image for image, fine in zip(images, readable, strict=True) if fine]
        regions, _, _ = embedder.regions(found, [Boxes(cells) for _ in found])
        vectors = np.concatenate([vectors, regions.numpy()])
        boxes = boxes + cells.tolist() * len(found)
        kept = np.concatenate([kept, kept.repeat(len(cells))])
    width = vectors.shape[1]
    return pa.table(
        {
            "item": pa.array(kept, pa.int64()),
            "name": pa.array([collection.names[item] for item in kept.tolist()], pa.string()),
            "box": pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(boxes), pa.float32()), 4),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), width),
        }
    )


def grid_boxes(grid: int) -> np.ndarray:
    """(grid², 4) normalized boxes that overlap their neighbors by half a cell, so that nothing lies on a border."""
    edges = np.linspace(0, 1, grid + 1)
    margin = 0.25 / grid
    return np.array(
        [
            [edges[x] - margin, edges[y] - margin, edges[x + 1] + margin, edges[y + 1] + margin]
            for y in range(grid)
            for x in range(grid)
        ],
        dtype=np.float32,
    ).clip(0, 1)


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def _write_index(output: Path, shards: int, index_type: str) -> int:
    """FAISS inner-product index over all rows, in their order; cosine, since embeddings are normalized."""
    faiss = require_faiss()
    matrices = (matrix_of(table) for table in read_shards(output, shards, ["embedding"]))
    first = next((matrix for matrix in matrices if len(matrix)), None)
    if first is None:
        raise ValueError(f"None of the images could be read; {output} holds no embedding to search.")
    try:
        index = faiss.index_factory(first.shape[1], index_type, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(f"FAISS makes no index of type {index_type!r}: {_reason(error)}.") from None
    if not index.is_trained:
        sample = np.concatenate([matrix_of(table) for table in read_shards(output, shards, ["embedding"])])
        chosen = np.random.default_rng(0).permutation(len(sample))[:TRAINING_VECTORS]
        try:
            index.train(sample[chosen])
        except RuntimeError as error:
            raise ValueError(
                f"an index of type {index_type!r} cannot be trained on {len(chosen)} vectors: {_reason(error)}. Choose fewer "
                "clusters, or Flat, and start again: the embeddings are kept."
            ) from None
    for table in read_shards(output, shards, ["embedding"]):
        index.add(matrix_of(table))
    with replacing(output / INDEX_FILE) as part:
        faiss.write_index(index, str(part))
    return index.ntotal


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without its place in the source."""
    return re.sub(r".*(?: failed|\.cpp:\d+): ", "", str(error), flags=re.DOTALL)


def _settings(collection: Collection, embedder: Embedder, grid: int, shard_size: int) -> dict[str, Any]:
    return {
        "collection": collection.name,
        "images": len(collection.names),
        "names": hashlib.sha256("\0".join(collection.names).encode()).hexdigest(),
        "model": embedder.adapter.name,
        "weights": embedder.fingerprint,
        "precision": embedder.precision,
        "grid": grid,
        "shard_size": shard_size,
    }


def _check_settings(output: Path, settings: dict[str, Any]) -> None:
    path = output / SETTINGS_FILE
    if not path.exists():
        return write_text(path, json.dumps(settings, indent=2) + "\n")
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in settings if found.get(name) != settings[name]]
    if changed:
        raise ValueError(
            f"{output} holds embeddings made otherwise ({', '.join(changed)} changed); use another --output, or delete it."
        )
    return None
