"""The routes. Each request's items join those of other requests before the model sees them."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dataset_scripts.download import Downloader
from eval.visualize.similarity import overlay
from modeling_fgclip.boxes import check_boxes

from .engine import RegionItem, TextItem
from .errors import BadRequest, add_handlers, error_response
from .images import read_image
from .limits import Keys, Limits
from .schemas import Answer, EmbeddingRequest, Item, MapRequest, RegionRequest

REGISTRY = CollectorRegistry()
REQUESTS = Counter("fgclip_requests", "Answers by route and status", ["route", "status"], registry=REGISTRY)
SECONDS = Histogram("fgclip_request_seconds", "Time to answer", ["route"], registry=REGISTRY)
ITEMS = Counter("fgclip_items", "Embedded items", ["kind"], registry=REGISTRY)


class Service(Protocol):
    """What stands behind the routes: the model, one item at a time; whoever implements it makes batches."""

    name: str
    limits: Limits
    keys: Keys
    downloader: Downloader

    async def text(self, item: TextItem) -> torch.Tensor:
        """(D,)"""

    async def tokens(self, item: TextItem) -> int: ...

    async def image(self, item: Image.Image) -> torch.Tensor:
        """(D,)"""

    async def region(self, item: RegionItem) -> torch.Tensor:
        """(K, D)"""

    async def maps(self, image: Image.Image, phrases: list[str]) -> np.ndarray:
        """(P, h, w)"""


def current_service() -> Service:
    """The replica of Ray Serve that answers."""
    from ray import serve

    return serve.get_replica_context().servable_object


async def allowed(request: Request, service: Annotated[Service, Depends(current_service)]) -> Service:
    """The service, for requests that name a key where keys are needed."""
    if not service.keys.allow(request.headers.get("authorization")):
        raise BadRequest("the key is missing or wrong; send it as the header Authorization: Bearer KEY", 401)
    return service


Allowed = Annotated[Service, Depends(allowed)]

app = FastAPI(
    title="FG-CLIP embeddings",
    description="Texts (up to 248 tokens), images, regions of images, and where a phrase is in an image. All embeddings "
    "have length 1: their dot product is the cosine.",
)
add_handlers(app)


@app.post("/v1/embeddings", summary="Embeddings of texts and images")
async def embeddings(body: EmbeddingRequest, service: Allowed) -> Answer:
    """OpenAI's form (`input`), or that of FG-CLIP's clients (`input_type` with `texts` or `images`)."""
    items = _items(body, service.limits)
    vectors = await _in_time(asyncio.gather(*(_embed(item, service) for item in items)), service.limits)
    if body.input_type is not None:
        data = [{"index": n, "embeddings": {"float": vector.tolist()}} for n, vector in enumerate(vectors)]
        return {"object": "list", "model": service.name, "data": data}
    encode = _base64 if body.encoding_format == "base64" else torch.Tensor.tolist
    data = [{"object": "embedding", "index": n, "embedding": encode(vector)} for n, vector in enumerate(vectors)]
    used = sum(await asyncio.gather(*(service.tokens(item) for item in items if isinstance(item, TextItem))))
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "model": service.name, "data": data, "usage": usage}


@app.post("/v1/regions", summary="Embeddings of boxes, scored against phrases")
async def regions(body: RegionRequest, service: Allowed) -> Answer:
    """Of each box its embedding and, with phrases, the cosine with each; put a phrase and its hard negatives side by side."""
    limits = service.limits
    _at_most(len(body.boxes), limits.boxes, "boxes")
    phrases = _phrases(body.phrases or [], limits)
    image = await _image(body.image, service)
    width, height = image.size if body.box_format == "pixel" else (1, 1)
    try:
        boxes = check_boxes(torch.tensor(body.boxes), width, height)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    boxes = boxes / torch.tensor([width, height, width, height])
    found, texts = await _in_time(
        asyncio.gather(service.region(RegionItem(image, boxes)), asyncio.gather(*map(service.text, phrases))), limits
    )
    ITEMS.labels("region").inc(len(boxes))
    data = [{"index": n, "embedding": row.tolist()} for n, row in enumerate(found)]
    if texts:
        scores = found @ torch.stack(texts).T
        for one, row in zip(data, scores, strict=True):
            one |= {"scores": row.tolist(), "best": int(row.argmax())}
    return {"object": "list", "model": service.name, "data": data}


@app.post("/v1/similarity-maps", summary="Where phrases are in an image")
async def similarity_maps(body: MapRequest, service: Allowed) -> Answer:
    """Of each phrase the cosine with every patch, row by row from the top left."""
    phrases = [item.text for item in _phrases(body.phrases, service.limits)]
    image = await _image(body.image, service)
    found = await _in_time(service.maps(image, phrases), service.limits)
    data = []
    for number, (phrase, grid) in enumerate(zip(phrases, found, strict=True)):
        one: Answer = {"index": number, "phrase": phrase, "similarity": np.round(grid.astype(float), 4).tolist()}
        if body.overlay:
            one["png"] = await asyncio.to_thread(_png, image, grid)
        data.append(one)
    return {"object": "list", "model": service.name, "data": data}


@app.get("/health", summary="Whether the model answers")
async def health(service: Annotated[Service, Depends(current_service)]) -> Answer:
    vector = await service.text(TextItem("a photo", "short"))
    return {"status": "ok", "model": service.name, "dimensions": len(vector)}


@app.get("/metrics", response_class=PlainTextResponse, summary="Counts and times, for Prometheus")
async def metrics() -> Response:
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _items(body: EmbeddingRequest, limits: Limits) -> list[TextItem | str]:
    """What is to be embedded: texts, and images as they were sent."""
    if body.dimensions is not None:
        raise BadRequest("dimensions is not supported: the embeddings have one size; leave it out")
    forms = (body.input is not None) + (body.texts is not None) + (body.images is not None)
    if forms != 1 or (body.input is not None) == (body.input_type is not None):
        raise BadRequest("send either input, or input_type with texts or images")
    if (body.input_type == "text" and body.texts is None) or (body.input_type == "image" and body.images is None):
        raise BadRequest(f"input_type {body.input_type!r} needs {body.input_type}s")
    given = body.input if isinstance(body.input, list) else [body.input]
    found: list[TextItem | str] = []
    for one in body.texts or body.images or given:
        item = one if isinstance(one, Item) else Item(**{"image" if _is_image(one, body) else "text": one})
        if (item.text is None) == (item.image is None):
            raise BadRequest("an item has either a text or an image")
        found.append(item.image if item.text is None else _text(item.text, _KINDS[body.long_text], limits))
    if not found:
        raise BadRequest("there is nothing to embed: input is empty")
    _at_most(len(found), limits.items, "items")
    return found


def _is_image(text: str, body: EmbeddingRequest) -> bool:
    return body.input_type == "image" or (body.input_type is None and text.startswith("data:image/"))


_KINDS = {True: "long", False: "short", "auto": "auto"}


def _text(text: str, kind: str, limits: Limits) -> TextItem:
    if not text.strip():
        raise BadRequest("a text is empty")
    _at_most(len(text), limits.characters, "characters in a text")
    return TextItem(text, kind)


def _phrases(phrases: list[str], limits: Limits) -> list[TextItem]:
    _at_most(len(phrases), limits.phrases, "phrases")
    return [_text(phrase, "region", limits) for phrase in phrases]


def _at_most(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise BadRequest(f"{count:,} {what}; at most {limit:,} are answered in a request", 413)


async def _image(text: str, service: Service) -> Image.Image:
    # Fetching and decoding wait or work outside the event loop.
    return await asyncio.to_thread(read_image, text, service.limits, service.downloader)


async def _embed(item: TextItem | str, service: Service) -> torch.Tensor:
    if isinstance(item, TextItem):
        ITEMS.labels("text").inc()
        return await service.text(item)
    image = await _image(item, service)
    ITEMS.labels("image").inc()
    return await service.image(image)


async def _in_time(work: Awaitable[Any], limits: Limits) -> Any:
    try:
        return await asyncio.wait_for(work, limits.seconds)
    except TimeoutError:
        raise BadRequest(f"the request took longer than {limits.seconds:g} s; send fewer items", 503) from None
    except ValueError as error:  # of tokenizer, processor or model: the text or image is the reason
        raise BadRequest(str(error)) from None


def _base64(vector: torch.Tensor) -> str:
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()


def _png(image: Image.Image, grid: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray((255 * overlay(image, grid)).astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class BodyLimit:
    """Refuses a body that is too large, by its declared length or while it arrives."""

    def __init__(self, inner: ASGIApp):
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.inner(scope, receive, send)
        limit = (scope["app"].dependency_overrides.get(current_service, current_service))().limits.body_bytes
        refusal = error_response(f"the body has more than {limit:,} bytes", 413)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return await refusal(scope, receive, send)
        received, refused = 0, False

        async def counted() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                refused = True
                return {"type": "http.disconnect"}
            return message

        async def answer(message: Message) -> None:
            if not refused:
                await send(message)

        try:
            await self.inner(scope, counted, answer)
        except Exception:
            if not refused:
                raise
        if refused:
            await refusal(scope, receive, send)
        return None


@app.middleware("http")
async def measured(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    started = time.perf_counter()
    response = await call_next(request)
    found = request.scope.get("route")
    route = found.path if found is not None else "unknown"
    REQUESTS.labels(route, response.status_code).inc()
    SECONDS.labels(route).observe(time.perf_counter() - started)
    return response


app.add_middleware(BodyLimit)
