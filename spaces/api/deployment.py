"""The service on Ray Serve: batches across requests, several replicas, one machine or many.

Why Ray Serve: all routes share one model in a replica and one queue a kind of item, which LitServe (a process and a model for
each route) does not do; and the same code runs on several machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ray import serve

from dataset_scripts.download import Downloader
from eval.adapters import load_adapter
from eval.visualize.similarity import similarity_maps

from .app import app
from .engine import Engine, RegionItem, TextItem
from .limits import Keys, Limits

MAX_BATCH = 32
WAIT_SECONDS = 0.01  # for further items, before a batch that is not full goes to the model


@serve.deployment(max_ongoing_requests=256)
@serve.ingress(app)
class EmbeddingService:
    """A replica: one model, whose items of all requests are batched by kind.

    Args:
        model: checkpoint, a folder or a Hub id.
        device: where it runs.
        limits: of a request. keys: who may ask.
        batch: items a batch at most; 1 turns batching off.
    """

    def __init__(self, model: str, device: str, limits: Limits, keys: Keys, batch: int = MAX_BATCH, threads: int = 0):
        if threads:
            torch.set_num_threads(threads)
        adapter = load_adapter(model)
        self.name, self.limits, self.keys = adapter.name, limits, keys
        self.downloader = Downloader(limits.download)
        self._engine = Engine(adapter, device)
        self._lock = asyncio.Lock()  # one batch at a time: they would share the same cores or GPU
        for queue in (self.text, self.image, self.region):
            queue.set_max_batch_size(batch)

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        async with self._lock:
            return await asyncio.to_thread(work, *arguments)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def text(self, items: list[TextItem]) -> list[torch.Tensor]:
        return await self._each(self._engine.texts, items)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def image(self, items: list[Image.Image]) -> list[torch.Tensor]:
        return await self._each(self._engine.images, items)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def region(self, items: list[RegionItem]) -> list[torch.Tensor]:
        return await self._each(self._engine.regions, items)

    async def _each(self, work: Callable[[list], list], items: list) -> list:
        """A batch; where an item of one request spoils it, each item alone, so that the others are answered."""
        try:
            return await self._run(work, items)
        except ValueError as error:
            if len(items) == 1:
                return [error]
            return [answer for item in items for answer in await self._each(work, [item])]

    async def tokens(self, item: TextItem) -> int:
        return self._engine.tokens(item)

    async def maps(self, image: Image.Image, phrases: list[str]) -> np.ndarray:
        return await self._run(similarity_maps, self._engine.adapter, image, phrases)


def start(
    model: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    replicas: int = 1,
    device: str = "cpu",
    limits: Limits | None = None,
    keys: Keys | None = None,
    batch: int = MAX_BATCH,
    threads: int = 0,
) -> None:
    """Starts the service and returns when it answers. `ray.shutdown()` ends it."""
    gpus = {"num_gpus": 1} if device.startswith("cuda") else {}
    options = {"num_replicas": replicas, "ray_actor_options": gpus}
    serve.start(http_options={"host": host, "port": port})
    bound = EmbeddingService.options(**options).bind(
        str(model), device, limits or Limits(), keys or Keys(), batch, threads
    )
    serve.run(bound, name="fgclip", route_prefix="/")
