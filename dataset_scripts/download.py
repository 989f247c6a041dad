"""Fetches images over HTTP with limits on time, size and hosts, retries, and a cache on disk.

img2dataset, which the published instructions use, does not retry a failed URL on a later run, does not limit sizes,
and gives images names of its own that have to be joined afterwards. Here a URL is fetched when its record is written.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from dataset_scripts.atomic import replacing
from dataset_scripts.image_stores import MissingImage
from dataset_scripts.public_hosts import Deadline, LimitedAdapter, PrivateAddress, UnknownHost

_CHUNK = 1 << 16
_REDIRECTS = 5
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class DownloadSettings:
    """Limits of one fetch."""

    timeout: float = 20.0  # seconds for all of an image, redirects included
    connect_timeout: float = 5.0  # seconds
    retries: int = 2  # further attempts after a time-out, a broken connection or a busy server
    backoff: float = 0.5  # seconds before the first retry, doubled for each further one
    max_bytes: int = 30_000_000
    private_hosts: bool = False  # whether addresses of this machine and its network may be asked
    user_agent: str = "Mozilla/5.0 (compatible; fgclip-dataset)"

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "max_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.retries < 0 or self.backoff < 0:
            raise ValueError(f"retries is {self.retries} and backoff {self.backoff}; neither may be below 0")


class _Transient(Exception):
    """A failure that another attempt may not meet."""


class Downloader:
    """Gets the bytes behind a URL; safe to use from many threads at once.

    Args:
        settings: limits.
        cache: folder in which fetched bytes are kept until :meth:`forget`; None keeps nothing. Failures are not kept,
            so that a later run tries them again.
    """

    def __init__(self, settings: DownloadSettings, cache: Path | None = None) -> None:
        self.settings = settings
        self._cache = cache
        self._local = threading.local()

    def __getstate__(self) -> dict:
        return {"settings": self.settings, "_cache": self._cache}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=threading.local())

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.headers["User-Agent"] = self.settings.user_agent
            for scheme in ("http://", "https://"):
                session.mount(scheme, LimitedAdapter(self.settings.private_hosts, pool_connections=16, max_retries=0))
            self._local.session = session
        return self._local.session

    def _follow(self, url: str, deadline: Deadline) -> requests.Response:
        for _ in range(_REDIRECTS + 1):
            _check_url(url)
            left = deadline.left
            if left <= 0:
                raise _Transient("download timed out")
            response = self._session().get(
                url, stream=True, allow_redirects=False, timeout=(min(self.settings.connect_timeout, left), left)
            )
            if not response.is_redirect:
                return response
            url = urljoin(url, response.headers["location"])
            response.close()
        raise MissingImage("too many redirects")

    def _read(self, response: requests.Response, deadline: Deadline) -> bytes:
        if response.status_code in _TRANSIENT:
            raise _Transient(f"HTTP {response.status_code}")
        if response.status_code != 200:
            raise MissingImage(f"HTTP {response.status_code}")
        data = bytearray()
        # read1 gives what has arrived, so that a large answer is noticed early.
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            data += chunk
            if len(data) > self.settings.max_bytes:
                raise MissingImage("download is too large")
        if deadline.is_over:
            raise _Transient("download timed out")
        return bytes(data)

    def _attempt(self, url: str) -> bytes:
        with Deadline(self.settings.timeout) as deadline:
            try:
                with self._follow(url, deadline) as response:
                    return self._read(response, deadline)
            except PrivateAddress as error:
                raise MissingImage("host lies in a private network") from error
            except UnknownHost as error:
                raise MissingImage("host name is not known") from error
            except requests.Timeout as error:
                raise _Transient("download timed out") from error
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as error:
                raise MissingImage("URL is not valid") from error
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise _Transient("download timed out" if deadline.is_over else "connection failed") from error

    def _cached(self, url: str) -> Path | None:
        if self._cache is None:
            return None
        name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        return self._cache / name[:2] / name

    def fetch(self, url: str) -> bytes:
        """The bytes of a URL.

        Raises:
            MissingImage: they cannot be had; the message is the reason for counting.
        """
        cached = self._cached(url)
        if cached is not None and cached.is_file():
            return cached.read_bytes()
        for attempt in range(self.settings.retries + 1):
            if attempt:
                time.sleep(self.settings.backoff * 2 ** (attempt - 1))
            try:
                data = self._attempt(url)
                break
            except _Transient as error:
                reason = str(error)
        else:
            raise MissingImage(reason)
        if cached is not None:
            with replacing(cached) as part:
                part.write_bytes(data)
        return data

    def forget(self, url: str) -> None:
        """Drops a URL's bytes from the cache."""
        cached = self._cached(url)
        if cached is not None:
            cached.unlink(missing_ok=True)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise MissingImage("URL is not valid") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MissingImage("URL is neither http nor https")
