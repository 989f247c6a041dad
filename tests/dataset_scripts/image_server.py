"""A web server on this machine that answers well, badly, slowly or not at all, by the first part of the path."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class ImageServer:
    """``/KIND/PATH`` answers with the file ``root/PATH`` in the way that KIND says; ``asked`` counts requests."""

    def __init__(self, root: Path, delay: float = 0.0) -> None:
        self.root, self.delay = root, delay
        self.asked: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _send(self, status: int, data: bytes, length: int | None = None, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) if length is None else length))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                server.asked[self.path] += 1
                _, kind, path = self.path.split("/", 2)
                time.sleep(server.delay)
                if kind == "gone":
                    return self._send(404, b"<html>gone</html>")
                if kind == "html":
                    return self._send(200, b"<!DOCTYPE html><html>sorry</html>")
                if kind == "flaky" and server.asked[self.path] == 1:
                    return self._send(503, b"busy")
                if kind == "moved":
                    return self._send(302, b"", Location=f"/ok/{path}")
                if kind == "loop":
                    return self._send(302, b"", Location=self.path)
                data = (server.root / path.partition("?")[0]).read_bytes()
                if kind == "huge":
                    return self._send(200, data + b"\0" * 3_000_000)
                if kind == "cut":
                    self._send(200, data[:100], length=len(data))
                    self.close_connection = True
                    return None
                if kind == "dripping_headers":  # never silent for long, never at the body
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    for _ in range(40):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        time.sleep(0.1)
                    return None
                if kind == "patient":  # until 40 others were asked for
                    while sum(server.asked.values()) <= 40:
                        time.sleep(0.01)
                if kind == "drip_to_the_end":  # no length: only the end of the connection ends it
                    self.close_connection = True
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(40):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        time.sleep(0.1)
                    return None
                if kind == "drip":  # never silent for long, never done
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    for _ in range(40):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        time.sleep(0.1)
                    return None
                return self._send(200, data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that hang up are part of the tests
        self.url = f"http://127.0.0.1:{self._server.server_port}"


@contextmanager
def serving(root: Path, delay: float = 0.0) -> Iterator[ImageServer]:
    server = ImageServer(root, delay)
    thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        server._server.server_close()


def publish_urls(layout: Path, server: ImageServer, kind: Callable[[int], str]) -> list[str]:
    """Moves the images behind the server and writes url2key_jsons and URL lists; gives the path of each image."""
    published = [r for path in sorted(layout.glob("jsonfiles/*.json")) for r in json.loads(path.read_text())]
    paths = [record["f_path"].removeprefix("grit-20m/data-12m/") for record in published]
    (layout / "images").rename(server.root)
    urls = [f"{server.url}/{kind(number)}/{path}" for number, path in enumerate(paths)]
    (layout / "url2key_jsons").mkdir()
    (layout / "coyo_image_0").mkdir()
    content = dict(zip(urls, paths, strict=True))
    (layout / "url2key_jsons" / "url2key_coyo_image_0.json").write_text(json.dumps(content))
    pq.write_table(pa.table({"url": urls}), layout / "coyo_image_0" / "00000.parquet")
    return paths
