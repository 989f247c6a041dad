"""Conversion to shards: images/s from disk, and from a server with failures and slow answers, killed and resumed.

    python benchmarks/data_conversion.py --images 2000

Draws photographs-sized JPEG pictures (640 × 480), serves them from this machine (10 % answer 404, 10 % take a second,
the rest 20 ms), converts them once without and once with two kills (SIGKILL), and compares. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_scripts.paths import PUBLISHED_PREFIX

REGION = {"bbox": [0.1, 0.1, 0.6, 0.7, 0.9], "short_expr": "a red thing", "long_expr": "a large red thing"}


def write_pictures(root: Path, count: int) -> list[str]:
    """Smooth random pictures of about 60 kB; gives their paths below ``root``."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        path = f"coyo_image_0/00000/{number:09d}.jpg"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(root / path, quality=90)
        paths.append(path)
    return paths


class Server(ThreadingHTTPServer):
    """Serves a folder, badly."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, root: Path) -> None:
        asked: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                asked[self.path] += 1
                number = int(Path(self.path).stem)
                time.sleep(1.0 if number % 10 == 1 else 0.02)
                data = b"gone" if number % 10 == 0 else (root / self.path[1:]).read_bytes()
                self.send_response(404 if number % 10 == 0 else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = asked
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients that are killed hang up."""


def write_annotations(root: Path, paths: list[str], url: str) -> None:
    for folder in ("jsonfiles", "url2key_jsons"):
        (root / folder).mkdir(parents=True)
    records = [
        {"f_path": f"{PUBLISHED_PREFIX}{path}", "caption": f"Picture {path}. ", "bbox_info": [REGION]}
        for path in paths
    ]
    (root / "jsonfiles" / "a.json").write_text(json.dumps(records))
    keys = {f"{url}/{path}": path for path in paths}
    (root / "url2key_jsons" / "url2key_coyo_image_0.json").write_text(json.dumps(keys))


def shards(output: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.glob("*.parquet"))}


def run(command: list[str], kill_at: int | None = None, output: Path | None = None) -> tuple[float, float]:
    """Wall and CPU seconds; with ``kill_at``, killed as soon as so many shards are there."""
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if kill_at is not None and output is not None and len(list(output.glob("*.parquet"))) >= kill_at:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    process.wait()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        paths = write_pictures(work / "pictures", options.images)
        server = Server(work / "pictures")
        write_annotations(work / "layout", paths, f"http://127.0.0.1:{server.server_port}")
        base = [sys.executable, "-m", "dataset_scripts.convert", str(work / "layout")]
        size = ["--shard-size", str(options.images // 10)]
        # What starting Python and its imports costs is measured on a set of one image and taken off.
        write_annotations(work / "one", paths[1:2], "http://127.0.0.1:9")
        idle = [*base[:-1], str(work / "one"), str(work / "none"), "--images", str(work / "pictures")]
        start_wall, start_cpu = run(idle)
        wall, cpu = run([*base, str(work / "disk"), "--images", str(work / "pictures"), *size])
        result = {
            "picture_kB": round((work / "pictures" / paths[0]).stat().st_size / 1e3),
            "from disk": {
                "images_per_s": round(options.images / (wall - start_wall)),
                "images_per_cpu_s": round(options.images / (cpu - start_cpu)),
            },
        }
        web = ["--download", "--private-hosts", "--workers", "64", *size]
        wall, cpu = run([*base, str(work / "web"), *web])
        found = json.loads((work / "web" / "train-manifest.json").read_text())
        result["from the server"] = {
            "images_per_s": round(options.images / (wall - start_wall)),
            "images_per_cpu_s": round(options.images / (cpu - start_cpu)),
            "found": found["totals"]["records"],
            "left_out": found["images"]["problems"],
        }
        server.asked.clear()
        killed = work / "killed"
        for count in (2, 5):
            run([*base, str(killed), *web], count, killed)
        run([*base, str(killed), *web])
        good = [count for path, count in server.asked.items() if int(Path(path).stem) % 10]
        result["killed twice and resumed"] = {
            "same_shards": shards(killed) == shards(work / "web"),
            "images_fetched": len(good),
            "fetched_again": sum(good) - len(good),
        }
        server.shutdown()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
