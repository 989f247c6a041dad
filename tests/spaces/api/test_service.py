"""The service as it is started: Ray Serve, OpenAI's own client, clients of all kinds at once."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from tests.conftest import make_processor, make_tiny_model

openai = pytest.importorskip("openai", reason="needs the extra serve")
pytest.importorskip("ray.serve", reason="needs the extra serve")
ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow  # Ray takes half a minute to start


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("service") / "checkpoint"
    processor = make_processor()
    make_tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@contextmanager
def service(checkpoint: Path, end: signal.Signals) -> Iterator[str]:
    """The address of a service, which is ended by the signal."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FGCLIP_API_KEYS": "key", "RAY_USAGE_STATS_ENABLED": "0"}
    # On a busy machine; Ray lets all other processes go first, there for ever.
    environment |= {f"RAY_SERVE_PROXY_{kind}_CHECK_TIMEOUT_S": "60" for kind in ("READY", "HEALTH")}
    environment |= {"RAY_worker_niceness": "0", "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-m", "spaces.api", "--model", str(checkpoint), "--port", str(port), "--threads", "1"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a job in the background ignores
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "".join(lines)[-3000:]
            if any("Serving" in line and address in line for line in lines):
                break
            time.sleep(1)
        else:
            raise AssertionError("".join(lines)[-3000:])
        yield address
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(end)
        try:
            assert process.wait(300) == 128 + end
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # says where each of its threads stands
            process.wait(60)
            reader.join(10)
            raise AssertionError("".join(lines)[-10_000:]) from None
        _, alive = psutil.wait_procs(children, 60)
        assert not alive


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    with service(checkpoint, signal.SIGINT) as address:
        yield address


def encoded(color: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), color).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_openais_client_gets_the_models_embeddings(url: str, checkpoint: Path) -> None:
    model, processor = FGCLIPModel.from_pretrained(checkpoint).eval(), FGCLIPProcessor.from_pretrained(checkpoint)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="key")
    texts = ["a red star", "a blue circle next to a green square"]
    answer = client.embeddings.create(model="fg-clip", input=texts)
    with torch.no_grad():
        expected = normalize(model.get_text_features(**processor(text=texts)), dim=-1)
        image = normalize(model.get_image_features(**processor(images=Image.new("RGB", (60, 40), "red"))), dim=-1)
    torch.testing.assert_close(torch.tensor([one.embedding for one in answer.data]), expected, atol=1e-5, rtol=1e-5)
    found = (
        client.embeddings.create(model="fg-clip", input=f"data:image/png;base64,{encoded('red')}").data[0].embedding
    )
    torch.testing.assert_close(torch.tensor([found]), image, atol=1e-5, rtol=1e-5)
    with pytest.raises(openai.BadRequestError, match="dimensions is not supported"):
        client.embeddings.create(model="fg-clip", input="x", dimensions=8)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong").embeddings.create(model="fg-clip", input="x")


def test_docker_stop_ends_the_service_and_all_its_processes(checkpoint: Path) -> None:
    with service(checkpoint, signal.SIGTERM) as address:
        assert json.load(urllib.request.urlopen(f"{address}/health", timeout=60))


def test_many_clients_at_once_each_get_their_own_answer(url: str) -> None:
    """Batches join requests; what comes back must be what that request asked for."""

    def ask(route: str, body: dict) -> dict:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer key"}
        request = urllib.request.Request(f"{url}/v1/{route}", json.dumps(body).encode(), headers)
        return json.load(urllib.request.urlopen(request, timeout=600))["data"]

    bodies = {
        f"text {n}": ("embeddings", {"input": [f"a thing of kind {n}", "a star"][: 1 + n % 2]}) for n in range(12)
    } | {
        f"image {n}": ("embeddings", {"input": {"image": encoded(color)}})
        for n, color in enumerate(("red", "green", "blue", "white"))
    }
    box = {"boxes": [[0, 0, 30, 40]], "phrases": ["a star", "a dog"]}
    bodies |= {f"region {color}": ("regions", {"image": encoded(color), **box}) for color in ("red", "blue", "teal")}
    alone = {name: ask(*body) for name, body in bodies.items()}
    together: dict[str, list] = {}
    threads = [
        threading.Thread(target=lambda name=name, body=body: together.setdefault(name, ask(*body)))
        for name, body in bodies.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together.keys() == alone.keys()
    for name, expected in alone.items():
        for one, other in zip(together[name], expected, strict=True):
            torch.testing.assert_close(
                torch.tensor(one["embedding"]), torch.tensor(other["embedding"]), atol=1e-4, rtol=1e-4
            )


def test_the_page_s_client_runs(url: str) -> None:
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python serve\n(.*?)```", page, re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", url).replace('"none"', '"key"')
    found: dict = {}
    exec(code, found)
    assert len(found["texts"].data) == 2


@pytest.mark.parametrize(
    ("example", "needs"),
    [
        ("lancedb_search", ["lancedb"]),
        ("qdrant_search", ["qdrant_client"]),
        ("pgvector_search", ["psycopg", "pgvector"]),
    ],
)
def test_examples_of_vector_databases(example: str, needs: list[str], url: str, tmp_path: Path) -> None:
    """The picture itself is the query's best hit nowhere surely, with random weights: that all three come back, best first."""
    for package in needs:
        pytest.importorskip(package)
    database = os.environ.get("FGCLIP_POSTGRES")
    if example == "pgvector_search" and not database:
        pytest.skip("needs FGCLIP_POSTGRES, the URL of a database with pgvector")
    for color in ("red", "green", "blue", "white"):
        Image.new("RGB", (60, 40), color).save(tmp_path / f"{color}.png")
    source = (ROOT / "docs" / "examples" / f"{example}.py").read_text(encoding="utf-8").replace('"none"', '"key"')
    command = [sys.executable, "-c", source, url, str(tmp_path), "a red thing", *([database] if database else [])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    scores = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
