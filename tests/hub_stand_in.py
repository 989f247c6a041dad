"""A Hub on this machine: repositories of models, datasets and Spaces in memory, behind the end points that huggingface_hub asks for.

Clients find it by `stand_in.environment(home)`: the endpoint, no Xet, a cache of their own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".tar", ".onnx", ".bin", ".png", ".jpg")
API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(.*))?")
RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """Branches name commits, commits hold all files."""

    kind: str
    name: str
    private: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    variables: dict[str, str] = field(default_factory=dict)  # of a Space

    def sha(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def commit(self, revision: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((revision, self.branches, sorted(files))).encode()).hexdigest()
        self.commits[sha] = files
        self.branches[revision] = sha
        return sha


class HubStandIn:
    """The server.

    Attributes:
        repositories: (kind, name) → what was pushed.
        requests: method and path of every call.
        uploads: hashes of the large files received, in order.
        fail_after: number of large files after which uploads break.
    """

    user = "tester"

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.uploads: list[str] = []
        self.fail_after: int | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a client: this Hub, caches in `home`, a token that must never be seen again."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_secretOfTheTests",
        }

    def files(self, name: str, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        """Path → content of a repository."""
        repository = self.repositories[kind, name]
        return repository.commits[repository.branches[revision]]

    def add(self, name: str, folder: Path, kind: str = "models") -> None:
        """A repository with the files of a folder, as if somebody had pushed it."""
        repository = self.repositories.setdefault((kind, name), Repository(kind, name))
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        repository.commit("main", files)


@contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    hub = HubStandIn()
    threading.Thread(target=hub._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        hub._server.shutdown()
        hub._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubStandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _handle(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.body = self._read_body()
        if path == "/api/whoami-v2":
            return self._json({"name": self.hub.user, "type": "user", "orgs": [], "auth": {"type": "access_token"}})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(self.body))
        if path.startswith("/lfs/"):
            return self._upload(path.removeprefix("/lfs/"))
        if path.endswith("/info/lfs/objects/batch"):
            return self._lfs(json.loads(self.body))
        # A revision may hold a slash (refs/pr/1); clients quote it.
        if match := RESOLVE.fullmatch(url.path):
            kind, name, revision, file = match.groups()
            return self._resolve(kind or "models", unquote(name), unquote(revision), unquote(file))
        if match := API.fullmatch(url.path):
            return self._api(match[1], unquote(match[2]), [unquote(part) for part in (match[3] or "").split("/")])
        return self._missing("EntryNotFound")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline().strip(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _create(self, wanted: dict[str, Any]) -> None:
        kind = {"model": "models"}.get(wanted.get("type") or "model", f"{wanted.get('type')}s")
        name = f"{wanted.get('organization') or self.hub.user}/{wanted['name'].split('/')[-1]}"
        prefix = "" if kind == "models" else f"{kind}/"
        answer = {"url": f"{self.hub.endpoint}/{prefix}{name}", "name": name, "id": name}
        if (kind, name) in self.hub.repositories:
            return self._json({**answer, "error": "You already created this repo"}, 409)
        self.hub.repositories[kind, name] = Repository(
            kind, name, wanted.get("private") is True or wanted.get("visibility") == "private"
        )
        return self._json(answer)

    def _lfs(self, wanted: dict[str, Any]) -> None:
        """Where to put large files; nothing for those that are here."""
        objects = []
        for entry in wanted["objects"]:
            href = f"{self.hub.endpoint}/lfs/{entry['oid']}"
            new = entry["oid"] not in self.hub.blobs
            objects.append({**entry, **({"actions": {"upload": {"href": href}}} if new else {})})
        return self._json({"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        if self.hub.fail_after is not None and len(self.hub.uploads) >= self.hub.fail_after:
            return self._json({"error": "broken"}, 400)
        assert _oid(self.body) == oid
        self.hub.blobs[oid] = self.body
        self.hub.uploads.append(oid)
        return self._json({})

    def _api(self, kind: str, name: str, parts: list[str]) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._missing("RepoNotFound")
        action, rest = parts[0], parts[1:]
        if action in ("", "revision"):
            return self._info(repository, rest[0] if rest else "main")
        if action == "variables":
            asked = json.loads(self.body)
            repository.variables[asked["key"]] = asked["value"]
            return self._json({key: {"value": value} for key, value in repository.variables.items()})
        if action == "preupload":
            files = json.loads(self.body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular"} for f in files
            ]
            return self._json({"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})
        if action == "commit":
            return self._commit(repository, rest[0])
        if action == "tree":
            return self._tree(repository, rest[0], "/".join(rest[1:]))
        if action == "paths-info":
            wanted = json.loads(self.body)["paths"] if self.body[:1] == b"{" else parse_qs(self.body.decode())["paths"]
            files = repository.commits[repository.sha(rest[0]) or "0" * 40]
            return self._json([_entry(path, files[path]) for path in wanted if path in files])
        if action == "branch":
            repository.branches["/".join(rest)] = repository.branches["main"]
            return self._json({})
        if action == "refs":
            branches = [
                {"name": b, "ref": f"refs/heads/{b}", "targetCommit": s} for b, s in repository.branches.items()
            ]
            return self._json({"branches": branches, "tags": [], "converts": []})
        return self._missing("EntryNotFound")

    def _info(self, repository: Repository, revision: str) -> None:
        sha = repository.sha(revision)
        if sha is None:
            return self._missing("RevisionNotFound")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        info = {"id": repository.name, "modelId": repository.name, "sha": sha, "private": repository.private}
        return self._json({**info, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0, "disabled": False})

    def _commit(self, repository: Repository, revision: str) -> None:
        files = dict(repository.commits[repository.sha(revision) or repository.branches["main"]])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif entry["key"] == "deletedFolder":
                files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
        answer = {}
        if self.query.get("create_pr") == ["1"]:
            number = sum(branch.startswith("refs/pr/") for branch in repository.branches) + 1
            revision = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repository.name}/discussions/{number}"
        sha = repository.commit(revision, files)
        url = f"{self.hub.endpoint}/{repository.name}/commit/{sha}"
        return self._json({"commitUrl": url, "commitOid": sha, "success": True, **answer})

    def _tree(self, repository: Repository, revision: str, folder: str) -> None:
        sha = repository.sha(revision)
        if sha is None:
            return self._missing("RevisionNotFound")
        below = f"{folder}/" if folder else ""
        files = {path: data for path, data in repository.commits[sha].items() if path.startswith(below)}
        if self.query.get("recursive", ["False"])[0].lower() == "true":
            return self._json([_entry(path, data) for path, data in sorted(files.items())])
        here = [_entry(path, data) for path, data in sorted(files.items()) if "/" not in path[len(below) :]]
        folders = sorted({below + path[len(below) :].split("/")[0] for path in files if "/" in path[len(below) :]})
        return self._json([{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders] + here)

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._missing("RepoNotFound")
        sha = repository.sha(revision)
        if sha is None:
            return self._missing("RevisionNotFound")
        data = repository.commits[sha].get(path)
        if data is None:
            return self._missing("EntryNotFound", {"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(data)}"', "Accept-Ranges": "bytes"}
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            return self._send(data[start : end + 1], 206, headers)
        return self._send(data, 200, headers)

    def _missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        message = {"RepoNotFound": "Repository not found"}.get(code, "not found")
        return self._send(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def _json(self, value: Any, status: int = 200) -> None:
        return self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": _oid(data)[:40], "size": len(data), "path": path}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": _oid(data), "size": len(data), "pointerSize": 130}
    return entry
