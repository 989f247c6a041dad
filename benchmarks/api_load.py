"""The embedding service under load: mixed requests of many clients, batched against one at a time.

    python -m benchmarks.api_load --model outputs/quickstart/stage2 --clients 50 --seconds 60

Starts the service twice, with batches and without, asks for texts, images and regions in equal parts, and prints requests a second,
the median and the 95th percentile of the waiting, and what failed. Then sends what must be refused, and how long that took.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.measure import hardware, save, table


def picture(seed: int, side: int = 224) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()


IMAGES = [picture(seed) for seed in range(16)]


def drawn(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A request: texts, an image, or regions of an image."""
    kind = rng.randrange(3)
    if kind == 0:
        return "embeddings", {"input": [f"a thing of kind {rng.randrange(10_000)} on a table" for _ in range(4)]}
    if kind == 1:
        return "embeddings", {"input": {"image": rng.choice(IMAGES)}}
    boxes = [[x, y, x + 80, y + 60] for x, y in ((10, 10), (100, 90))]
    return "regions", {"image": rng.choice(IMAGES), "boxes": boxes, "phrases": ["a red star", "a blue star"]}


async def client(url: str, seed: int, until: float, seconds: list[float], failed: list[str]) -> None:
    rng = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, timeout=60) as session:
        while time.perf_counter() < until:
            route, body = drawn(rng)
            start = time.perf_counter()
            try:
                answer = await session.post(f"/v1/{route}", json=body)
                if answer.status_code != 200:
                    failed.append(f"{answer.status_code} {answer.text[:100]}")
            except httpx.HTTPError as error:
                failed.append(repr(error))
            seconds.append(time.perf_counter() - start)


async def load(url: str, clients: int, duration: float) -> dict[str, Any]:
    seconds: list[float] = []
    failed: list[str] = []
    start = time.perf_counter()
    await asyncio.gather(*(client(url, seed, start + duration, seconds, failed) for seed in range(clients)))
    elapsed = time.perf_counter() - start
    cuts = statistics.quantiles(seconds, n=20)
    return {
        "requests": len(seconds),
        "failed": len(failed),
        "requests/s": round(len(seconds) / elapsed, 1),
        "p50 ms": round(1e3 * statistics.median(seconds)),
        "p95 ms": round(1e3 * cuts[-1]),
        "first failure": failed[0] if failed else "",
    }


def refusals(url: str) -> list[dict[str, Any]]:
    """What must be answered with 4xx, and in how many seconds it was."""
    buffer = io.BytesIO()
    Image.new("L", (12_000, 12_000)).save(buffer, "PNG")
    image = {"input": {"image": IMAGES[0]}}
    cases = {
        "picture of 144 million pixels": {"input": {"image": base64.b64encode(buffer.getvalue()).decode()}},
        "body of 50 MB": {"input": "x" * 50_000_000},
        "host of a private network": {"input": {"image": "http://169.254.169.254/latest"}},
        "host that does not answer": {"input": {"image": "http://192.0.2.1/x.jpg"}},
        "numbers as texts": {"input": [1, 2]},
        "dimensions": image | {"dimensions": 64},
    }
    rows = []
    for name, body in cases.items():
        start = time.perf_counter()
        status = httpx.post(f"{url}/v1/embeddings", json=body, timeout=60).status_code
        rows.append({"request": name, "status": status, "seconds": round(time.perf_counter() - start, 2)})
    return rows


def started(model: str, batch: int, threads: int) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "spaces.api", "--model", model, "--port", str(port), "--batch", str(batch)]
    process = subprocess.Popen(
        [*command, "--threads", str(threads)],
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(180):
        if process.poll() is not None:
            raise ValueError(
                f"the service ended with code {process.returncode}; start it by hand: {' '.join(command)}"
            )
        try:
            httpx.get(f"{url}/health", timeout=5).raise_for_status()
            return process, url
        except httpx.HTTPError:
            time.sleep(1)
    raise ValueError("the service did not answer within three minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1, help="of torch in the service")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    rows, refused = [], []
    for batch in (32, 1):
        process, url = started(options.model, batch, options.threads)
        try:
            asyncio.run(load(url, 4, 5))  # warm
            rows.append({"items a batch": f"up to {batch}"} | asyncio.run(load(url, options.clients, options.seconds)))
            refused = refused or refusals(url)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    print(hardware())
    print(table(rows))
    print(table(refused))
    save(options.output, {"load": rows, "refusals": refused})


if __name__ == "__main__":
    main()
