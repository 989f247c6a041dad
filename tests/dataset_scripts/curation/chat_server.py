"""An endpoint that fails as told: for what a real server cannot be made to do. Speaks chat completions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


class Seen(list[dict[str, Any]]):
    body = b""


@contextmanager
def serve(answer: Callable[[dict[str, Any], int], Any]):
    """`answer(request, number)` gives a completion, an HTTP status, (status, headers), bytes, or seconds to hang (float).

    Yields the address and the requests as they come in; the bytes of the last one are in the server's `seen.body`.
    """
    seen = Seen()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            with lock:
                seen.body = body
                seen.append(request)
                number = len(seen)
            reply = answer(request, number)
            status, headers = 200, {}
            if isinstance(reply, float):
                time.sleep(reply)
                reply = completion("late")
            if isinstance(reply, tuple):
                status, headers = reply
                reply = {"error": "told to fail"}
            elif isinstance(reply, int):
                status, reply = reply, {"error": "told to fail"}
            body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            try:
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client has given up

        def log_message(self, *_):
            pass

    ThreadingHTTPServer.request_queue_size = 64
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
