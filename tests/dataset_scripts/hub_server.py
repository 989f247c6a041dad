"""A stand-in for the Hugging Face Hub: data set repositories in memory, with the calls that uploads and reads make."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".parquet", ".tar", ".png")


class Hub:
    """``files[repo][path]`` are the bytes; ``private[repo]`` as asked for; ``uploads`` the large files received."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.fail_after: int | None = None  # uploads until the connection breaks
        self.commits = 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self, content: object = None, status: int = 200, **headers: str) -> None:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _sha(self) -> str:
                return f"{hub.commits:040d}"

            def _entry(self, repo: str, path: str) -> dict:
                data = hub.files[repo][path]
                oid = hashlib.sha256(data).hexdigest()
                entry: dict = {"type": "file", "path": path, "size": len(data), "oid": oid[:40]}
                if path.endswith(LARGE):
                    entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 130}
                return entry

            def do_POST(self) -> None:
                path, body = unquote(urlsplit(self.path).path), self._body()
                parts = path.strip("/").split("/")
                if path == "/api/repos/create":
                    asked = json.loads(body)
                    repo = f"{asked.get('organization') or 'someone'}/{asked['name']}"
                    if repo in hub.files:
                        return self._answer({"error": "exists", "url": repo}, 409)
                    hub.files[repo] = {}
                    hub.private[repo] = bool(asked.get("private")) or asked.get("visibility") == "private"
                    return self._answer({"url": f"{hub.url}/datasets/{repo}"})
                if path == "/api/validate-yaml":
                    return self._answer({"errors": [], "warnings": []})
                if "preupload" in parts:
                    files = json.loads(body)["files"]
                    modes = [
                        {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular"}
                        for f in files
                    ]
                    return self._answer({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
                if path.endswith("/info/lfs/objects/batch"):
                    objects = []
                    for item in json.loads(body)["objects"]:
                        if item["oid"] not in hub.objects:
                            item["actions"] = {"upload": {"href": f"{hub.url}/put/{item['oid']}", "header": {}}}
                        objects.append(item)
                    return self._answer({"transfer": "basic", "objects": objects})
                if "commit" in parts:
                    files = hub.files["/".join(parts[2:4])]
                    for line in body.splitlines():
                        change = json.loads(line)
                        value = change["value"]
                        if change["key"] == "file":
                            files[value["path"]] = base64.b64decode(value["content"])
                        elif change["key"] == "lfsFile":
                            files[value["path"]] = hub.objects[value["oid"]]
                        elif change["key"] == "deletedFile":
                            del files[value["path"]]
                    hub.commits += 1
                    repo = "/".join(parts[2:4])
                    return self._answer(
                        {
                            "commitUrl": f"{hub.url}/datasets/{repo}/commit/{self._sha()}",
                            "commitOid": self._sha(),
                            "success": True,
                        }
                    )
                if "paths-info" in parts:
                    repo = "/".join(parts[2:4])
                    asked = (
                        json.loads(body)["paths"]
                        if body[:1] == b"{"
                        else [
                            unquote(item.split("=", 1)[1]).replace("+", " ")
                            for item in body.decode().split("&")
                            if item.startswith("paths=")
                        ]
                    )
                    return self._answer([self._entry(repo, one) for one in asked if one in hub.files[repo]])
                return self._answer({"error": f"no POST {path}"}, 404)

            def do_PUT(self) -> None:
                if hub.fail_after is not None and len(hub.uploads) >= hub.fail_after:
                    self._body()
                    return self._answer({"error": "broken"}, 400)
                data = self._body()
                oid = self.path.rsplit("/", 1)[1]
                assert hashlib.sha256(data).hexdigest() == oid
                hub.objects[oid] = data
                hub.uploads.append(oid)
                return self._answer({})

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                parts = path.strip("/").split("/")
                if path.startswith("/api/whoami"):
                    return self._answer({"type": "user", "name": "someone", "orgs": [], "auth": {}})
                repo = "/".join(parts[2:4] if parts[0] == "api" else parts[1:3])
                if repo not in hub.files:
                    return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                files = hub.files[repo]
                if "resolve" in parts:
                    name = "/".join(parts[5:])
                    if name not in files:
                        return self._answer(
                            {"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=self._sha()
                        )
                    return self._send_file(files[name])
                if "tree" in parts:
                    folder = "/".join(parts[6:])
                    inside = [name for name in files if not folder or name.startswith(f"{folder}/")]
                    entries = [self._entry(repo, name) for name in inside]
                    if "recursive=true" not in self.path.lower():
                        depth = len(folder.split("/")) if folder else 0
                        folders = {"/".join(n.split("/")[: depth + 1]) for n in inside if n.count("/") > depth}
                        entries = [entry for entry in entries if entry["path"].count("/") == depth]
                        entries += [
                            {"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders
                        ]
                    return self._answer(entries)
                siblings = [{"rfilename": name} for name in files]
                return self._answer(
                    {"id": repo, "sha": self._sha(), "private": hub.private[repo], "siblings": siblings, "tags": []}
                )

            def _send_file(self, data: bytes) -> None:
                headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X_Repo_Commit": self._sha()}
                asked = self.headers.get("Range")
                if asked:
                    first, last = asked.removeprefix("bytes=").split("-")
                    stop = min(int(last) + 1 if last else len(data), len(data))
                    headers["Content_Range"] = f"bytes {first}-{stop - 1}/{len(data)}"
                    return self._answer(data[int(first) : stop], 206, **headers)
                return self._answer(data, **headers, Accept_Ranges="bytes")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"


@contextmanager
def hub_running() -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        hub._server.shutdown()
        hub._server.server_close()
