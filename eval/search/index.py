"""Queries: text, image or region against an index that `build` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from eval.embed import Embedder
from eval.images import Boxes, MemoryImage
from eval.search.build import INDEX_FILE, SETTINGS_FILE, read_shards, require_faiss


@dataclass(frozen=True)
class Hit:
    """A result: name of the image (path in its folder, or row), the box that matched (normalized xyxy), cosine."""

    name: str
    box: tuple[float, float, float, float]
    score: float


class SearchIndex:
    """An index on disk and the model that made it.

    Args:
        folder: `output` of `build`.
        embedder: of the same weights.

    Raises:
        ValueError: for a folder without an index, and for another model than the index was made with.
    """

    def __init__(self, folder: str | Path, embedder: Embedder):
        folder = Path(folder)
        if not (folder / INDEX_FILE).is_file():
            raise ValueError(
                f"{folder} holds no index; make one with `python -m eval.search index IMAGES --output {folder}`."
            )
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        if settings["weights"] != embedder.fingerprint:
            raise ValueError(
                f"{folder} was made with {settings['model']} and other weights than {embedder.adapter.name}: their "
                "embeddings cannot be compared. Query with the model of the index, or embed again."
            )
        self.embedder = embedder
        self._index = require_faiss().read_index(str(folder / INDEX_FILE))
        shards = -(-settings["images"] // settings["shard_size"])
        self._rows = pa.concat_tables(read_shards(folder, shards, ["name", "box"]))
        self._per_image = 1 + settings["grid"] ** 2

    def by_text(self, text: str, top: int = 10, long: bool = False) -> list[Hit]:
        """Images that fit a text; `long` reads up to 248 tokens."""
        return self.search(self.embedder.texts([text], "long" if long else "short").numpy(), top)[0]

    def by_image(self, image: Image.Image, top: int = 10) -> list[Hit]:
        """Images that resemble a whole image."""
        features, _ = self.embedder.images([MemoryImage(image)])
        return self.search(features.numpy(), top)[0]

    def by_region(self, image: Image.Image, box: Sequence[float], top: int = 10) -> list[Hit]:
        """Images with something like what an xyxy box (in pixels) of an image shows."""
        boxes = Boxes(np.array([box], dtype=np.float32), size=image.size)
        features, _, _ = self.embedder.regions([MemoryImage(image)], [boxes])
        return self.search(features.numpy(), top)[0]

    def search(self, queries: np.ndarray, top: int = 10) -> list[list[Hit]]:
        """(Q, D) normalized queries to Q lists of hits, each image once with its best box.

        Raises:
            ValueError: fewer than one hit asked for.
        """
        if top < 1:
            raise ValueError(f"top, the number of hits, must be at least 1; got {top}.")
        # Every image has several rows when boxes were embedded, and the best of them may be neighbors.
        scores, rows = self._index.search(queries.astype(np.float32), min(top * self._per_image, self._index.ntotal))
        return [self._hits(row, score, top) for row, score in zip(rows, scores, strict=True)]

    def _hits(self, rows: np.ndarray, scores: np.ndarray, top: int) -> list[Hit]:
        hits: dict[str, Hit] = {}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row < 0:  # an approximate index may find fewer
                continue
            name = self._rows["name"][row].as_py()
            if name not in hits:
                hits[name] = Hit(name, tuple(self._rows["box"][row].as_py()), score)
        return list(hits.values())[:top]
