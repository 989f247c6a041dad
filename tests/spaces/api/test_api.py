"""The routes, with a model of known answers behind them; Ray Serve itself is in test_service.py."""

from __future__ import annotations

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

fastapi_client = pytest.importorskip("fastapi.testclient", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")

from dataset_scripts.download import Downloader  # noqa: E402
from eval.visualize.similarity import similarity_maps  # noqa: E402
from spaces.api.app import app, current_service  # noqa: E402
from spaces.api.engine import Engine, RegionItem, TextItem  # noqa: E402
from spaces.api.limits import Keys, Limits  # noqa: E402
from tests.conftest import make_processor, make_tiny_model  # noqa: E402

LIMITS = Limits(items=5, boxes=3, phrases=3, body_bytes=300_000, image_bytes=100_000, pixels=40_000, characters=2_000)


class Alone:
    """The service without Ray: every item is a batch of its own."""

    name = "tiny"

    def __init__(self, limits: Limits = LIMITS, keys: Keys | None = None):
        from eval.adapters import adapter_for

        processor = make_processor()
        self.limits, self.keys = limits, keys or Keys()
        self.downloader = Downloader(limits.download)
        model = make_tiny_model(processor)
        with torch.no_grad():  # as after training: long text has a projection of its own
            model.text_filip_projection.weight.neg_()
        self.adapter = adapter_for(model, processor)
        self.engine = Engine(self.adapter)

    async def text(self, item: TextItem) -> torch.Tensor:
        return self.engine.texts([item])[0]

    async def tokens(self, item: TextItem) -> int:
        return self.engine.tokens(item)

    async def image(self, item: Image.Image) -> torch.Tensor:
        return self.engine.images([item])[0]

    async def region(self, item: RegionItem) -> torch.Tensor:
        return self.engine.regions([item])[0]

    async def maps(self, image: Image.Image, phrases: list[str]) -> np.ndarray:
        return similarity_maps(self.adapter, image, phrases)


@pytest.fixture
def service() -> Alone:
    return Alone()


@pytest.fixture
def client(service: Alone):
    app.dependency_overrides[current_service] = lambda: service
    with fastapi_client.TestClient(app, raise_server_exceptions=False) as client:
        yield client
    app.dependency_overrides.clear()


def picture(color: str = "red", size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size, color)


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def unit(features: torch.Tensor) -> torch.Tensor:
    return normalize(features.detach().float(), dim=-1)


def test_openais_form_gives_the_models_own_embeddings(client, service) -> None:
    texts = ["a red star", "a blue circle"]
    answer = client.post("/v1/embeddings", json={"model": "any", "input": texts, "user": "me"}).json()
    processor, model = service.adapter.processor, service.adapter.model
    expected = unit(model.get_text_features(**processor(text=texts)))
    assert [one["index"] for one in answer["data"]] == [0, 1]
    assert answer["object"] == "list"
    torch.testing.assert_close(
        torch.tensor([one["embedding"] for one in answer["data"]]), expected, atol=1e-5, rtol=1e-5
    )
    assert answer["usage"]["prompt_tokens"] == sum(len(ids) for ids in processor.encode_texts(texts))
    single = client.post("/v1/embeddings", json={"input": texts[0], "encoding_format": "base64"}).json()
    values = np.frombuffer(base64.b64decode(single["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(values, expected[0], atol=1e-5)


def test_images_in_every_form_are_one_image(client, service) -> None:
    image = encoded(picture())
    forms = [
        {"input": f"data:image/png;base64,{image}"},
        {"input": [{"image": image}]},
        {"input": {"image": f"data:image/png;base64,{image}"}},
        {"input_type": "image", "images": [image]},
    ]
    answers = [client.post("/v1/embeddings", json=form).json()["data"][0] for form in forms]
    vectors = [one.get("embedding") or one["embeddings"]["float"] for one in answers]
    expected = unit(service.adapter.model.get_image_features(**service.adapter.processor(images=picture())))[0]
    for vector in vectors:
        torch.testing.assert_close(torch.tensor(vector), expected, atol=1e-5, rtol=1e-5)


def test_long_text_is_a_choice(client) -> None:
    def embed(text: str, **choice: object) -> list[float]:
        return client.post("/v1/embeddings", json={"input": text, **choice}).json()["data"][0]["embedding"]

    first, second = ("a red wooden star " * 30 + end for end in ("on grass", "at night"))
    assert embed(first) == embed(first, long_text=True) != embed(second)
    assert embed(first, long_text=False) == embed(second, long_text=False)  # both are cut before they differ
    assert embed("a star") == embed("a star", long_text=False) != embed("a star", long_text=True)


def test_regions_and_their_scores(client, service) -> None:
    image, boxes = picture(), [[0, 0, 30, 40], [10, 5, 60, 40]]
    phrases = ["a red star", "a blue star", "a dog"]
    answer = client.post("/v1/regions", json={"image": encoded(image), "boxes": boxes, "phrases": phrases}).json()
    model, processor = service.adapter.model, service.adapter.processor
    expected = unit(model.get_region_features(**processor(images=image, boxes=boxes))[0])
    found = torch.tensor([one["embedding"] for one in answer["data"]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    scores = expected @ unit(model.get_text_features(**processor(text=phrases))).T
    torch.testing.assert_close(torch.tensor([one["scores"] for one in answer["data"]]), scores, atol=1e-5, rtol=1e-5)
    assert [one["best"] for one in answer["data"]] == scores.argmax(-1).tolist()
    halves = {"boxes": [[0, 0, 0.5, 1]], "box_format": "normalized"}
    half = client.post("/v1/regions", json={"image": encoded(image), **halves}).json()["data"][0]
    torch.testing.assert_close(torch.tensor(half["embedding"]), expected[0], atol=1e-5, rtol=1e-5)
    assert "scores" not in half


def test_similarity_maps(client, service) -> None:
    body = {"image": encoded(picture()), "phrases": ["a star", "a dog"], "overlay": True}
    answer = client.post("/v1/similarity-maps", json=body).json()
    expected = similarity_maps(service.adapter, picture(), body["phrases"])
    np.testing.assert_allclose([one["similarity"] for one in answer["data"]], expected, atol=1e-4)
    shown = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["png"])))
    assert shown.size == (60, 40)


def _bomb() -> str:
    return encoded(picture(size=(300, 300)))


@pytest.mark.parametrize(
    ("route", "body", "status", "message"),
    [
        ("embeddings", {"input": []}, 400, "nothing to embed"),
        ("embeddings", {"input": "   "}, 400, "empty"),
        ("embeddings", {"input": ""}, 400, "at least 1 character"),
        ("embeddings", {"input": [1, 2, 3]}, 400, "input"),
        ("embeddings", {"input": "x", "dimensions": 64}, 400, "dimensions is not supported"),
        ("embeddings", {"model": "m"}, 400, "either input, or input_type"),
        ("embeddings", {"input": "x", "texts": ["y"]}, 400, "either input, or input_type"),
        ("embeddings", {"input_type": "image", "texts": ["y"]}, 400, "needs images"),
        ("embeddings", {"input": ["x"] * 6}, 413, "at most 5"),
        ("embeddings", {"input": "x " * 1_500}, 413, "characters"),
        ("embeddings", {"input": "x " * 400}, 400, "the model reads 248: shorten it"),
        ("embeddings", {"input": "x", "temperature": 1}, 400, "temperature"),
        ("embeddings", {"input": {"text": "x", "image": "y"}}, 400, "either a text or an image"),
        ("embeddings", {"input": {"image": "no base64!"}}, 400, "neither"),
        ("embeddings", {"input": {"image": base64.b64encode(b"<html>").decode()}}, 400, "HTML"),
        ("embeddings", {"input": {"image": _bomb()}}, 400, "bomb"),
        ("embeddings", {"input": {"image": "A" * 200_000}}, 413, "bytes"),
        ("embeddings", {"input": {"image": "http://127.0.0.1:9/x.png"}}, 400, "private network"),
        ("embeddings", {"input": {"image": "http://169.254.169.254/latest"}}, 400, "private network"),
        ("embeddings", {"input": {"image": "file:///etc/passwd"}}, 400, "neither"),
        ("regions", {"image": encoded(picture()), "boxes": []}, 400, "boxes"),
        ("regions", {"image": encoded(picture()), "boxes": [[0, 0, 10]]}, 400, "boxes"),
        ("regions", {"image": encoded(picture()), "boxes": [[0, 0, 900, 10]]}, 400, "box"),
        ("regions", {"image": encoded(picture()), "boxes": [[0, 0, 1, 1]] * 4}, 413, "at most 3"),
        ("regions", {"image": encoded(picture()), "boxes": [[0, 0, 9, 9]], "phrases": ["x"] * 4}, 413, "phrases"),
        ("similarity-maps", {"image": encoded(picture()), "phrases": []}, 400, "phrases"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(client, route: str, body: dict, status: int, message: str) -> None:
    answer = client.post(f"/v1/{route}", json=body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_bodies_that_are_too_large_or_none(client) -> None:
    large = b'{"input": "' + b"x" * 400_000 + b'"}'
    assert client.post("/v1/embeddings", content=large).status_code == 413
    # Without a declared length, while it arrives.
    pieces = (large[start : start + 50_000] for start in range(0, len(large), 50_000))
    assert client.post("/v1/embeddings", content=pieces).status_code == 413
    assert client.post("/v1/embeddings", content=b"{").status_code == 400
    assert client.get("/v1/nothing").json()["error"]["message"] == "Not Found"


def test_keys() -> None:
    app.dependency_overrides[current_service] = lambda: Alone(keys=Keys(("secret", "other")))
    with fastapi_client.TestClient(app) as client:
        for header, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Bearer other"}, 200),
        ):
            answer = client.post("/v1/embeddings", json={"input": "x"}, headers=header)
            assert answer.status_code == status
            assert "secret" not in answer.text
    app.dependency_overrides.clear()
    assert "secret" not in repr(Keys(("secret",)))


def test_an_image_behind_a_url(service) -> None:
    data = base64.b64decode(encoded(picture("blue")))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app.dependency_overrides[current_service] = lambda: Alone(Limits(private_hosts=True))
    try:
        with fastapi_client.TestClient(app) as client:
            url = f"http://127.0.0.1:{server.server_port}/x.png"
            body = {"model": "m", "input_type": "image", "images": [url]}
            vector = client.post("/v1/embeddings", json=body).json()["data"][0]["embeddings"]["float"]
    finally:
        server.shutdown()
        app.dependency_overrides.clear()
    expected = unit(service.adapter.model.get_image_features(**service.adapter.processor(images=picture("blue"))))[0]
    torch.testing.assert_close(torch.tensor(vector), expected, atol=1e-5, rtol=1e-5)


def test_health_metrics_and_pages(client) -> None:
    assert client.get("/health").json() == {"status": "ok", "model": "tiny", "dimensions": 24}
    client.post("/v1/embeddings", json={"input": "x"})
    metrics = client.get("/metrics").text
    assert 'fgclip_requests_total{route="/v1/embeddings",status="200"}' in metrics
    routes = client.get("/openapi.json").json()["paths"]
    assert {"/v1/embeddings", "/v1/regions", "/v1/similarity-maps", "/health", "/metrics"} <= set(routes)


def test_a_batch_is_its_items(service) -> None:
    texts = [TextItem("a star", "short"), TextItem("a red wooden star " * 30), TextItem("a dog", "long")]
    together = service.engine.texts(texts)
    for item, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(service.engine.texts([item])[0], vector, atol=1e-5, rtol=1e-5)
    regions = [
        RegionItem(picture(), torch.tensor([[0, 0, 0.5, 1], [0.2, 0.2, 0.9, 0.9]])),
        RegionItem(picture("blue", (30, 70)), torch.tensor([[0.1, 0, 1, 1]])),
    ]
    for item, rows in zip(regions, service.engine.regions(regions), strict=True):
        torch.testing.assert_close(service.engine.regions([item])[0], rows, atol=1e-5, rtol=1e-5)
