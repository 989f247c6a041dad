from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_scripts.download import Downloader, DownloadSettings
from dataset_scripts.image_stores import MissingImage
from dataset_scripts.prefetch import prefetch
from dataset_scripts.public_hosts import is_public
from dataset_scripts.report import Report
from dataset_scripts.url_index import UrlIndex, iterate_pairs, join_key
from tests.dataset_scripts.image_server import serving

PATIENT = DownloadSettings(timeout=60, retries=1, backoff=0.01, max_bytes=1_000_000, private_hosts=True)
QUICK = replace(PATIENT, timeout=1.0)  # for servers that are never done


def test_answers_good_and_bad(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8
    (tmp_path / "a.bin").write_bytes(data)
    with serving(tmp_path) as server:
        downloader = Downloader(PATIENT)
        for kind in ("ok", "flaky", "moved"):
            assert downloader.fetch(f"{server.url}/{kind}/a.bin") == data
        for kind, reason in (
            ("gone", "HTTP 404"),
            ("loop", "too many redirects"),
            ("huge", "too large"),
            ("cut", "connection failed"),
        ):
            with pytest.raises(MissingImage, match=reason):
                downloader.fetch(f"{server.url}/{kind}/a.bin")
        for kind in ("drip", "dripping_headers", "drip_to_the_end"):
            with pytest.raises(MissingImage, match="timed out"):
                Downloader(QUICK).fetch(f"{server.url}/{kind}/a.bin")
        assert server.asked["/gone/a.bin"] == 1  # not there is not there
        assert server.asked["/cut/a.bin"] == 2  # a broken connection is tried again


def test_a_server_that_is_not_there_and_urls_that_are_none() -> None:
    downloader = Downloader(PATIENT)
    for url, reason in (
        ("http://127.0.0.1:9/x.jpg", "connection failed"),
        ("ftp://example.com/x.jpg", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("x.jpg", "neither http nor https"),
        ("http://[::1/x.jpg", "not valid"),
    ):
        with pytest.raises(MissingImage, match=reason):
            downloader.fetch(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0"])
def test_private_hosts_are_refused_unless_allowed(host: str) -> None:
    with pytest.raises(MissingImage, match="private network"):
        Downloader(DownloadSettings(retries=0)).fetch(f"http://{host}:9/x.jpg")


@pytest.mark.parametrize(
    "address",
    [
        "224.0.0.1",  # multicast
        "ff02::1",
        "ff0e::1",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "64:ff9b::5db8:d822",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",  # 6to4
        "2001:0:1::1",  # Teredo
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "100.64.0.1",  # a provider's own network
        "192.0.2.1",  # documentation
        "0.0.0.0",
        "255.255.255.255",
    ],
)
def test_only_addresses_of_one_public_host_are_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_the_address_that_was_checked_is_the_one_connected_to(tmp_path: Path, monkeypatch) -> None:
    """A name server that answers with a public address first and a private one afterwards gains nothing."""
    (tmp_path / "a.bin").write_bytes(b"secret")
    answers, connected = [], []
    with serving(tmp_path) as server:
        port = int(server.url.rpartition(":")[2])

        def look_up(host: str, port: int, *_: object, **__: object) -> list:
            address = "127.0.0.1" if answers else "93.184.216.34"
            answers.append(address)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        def connect(_: socket.socket, address: tuple) -> None:
            connected.append(address)
            raise OSError("no network")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        monkeypatch.setattr(socket.socket, "connect", connect)
        with pytest.raises(MissingImage, match="connection failed"):
            Downloader(DownloadSettings(retries=0)).fetch(f"http://rebinding.test:{port}/ok/a.bin")
        assert (answers, connected) == (["93.184.216.34"], [("93.184.216.34", port)])
        with pytest.raises(MissingImage, match="private network"):
            Downloader(DownloadSettings(retries=0)).fetch(f"http://rebinding.test:{port}/ok/a.bin")
        assert len(connected) == 1


def test_one_slow_answer_does_not_hold_back_the_rest(tmp_path: Path) -> None:
    """The first answer comes after 40 others were asked for: far more than wait for their turn otherwise."""
    (tmp_path / "a.bin").write_bytes(b"abc")
    with serving(tmp_path) as server:
        urls = [f"{server.url}/patient/a.bin", *[f"{server.url}/ok/a.bin?{n}" for n in range(60)]]
        fetched = prefetch(urls, Downloader(replace(PATIENT, retries=0)).fetch, 2, len)
        url, answer = next(fetched)
        assert (url, answer.result()) == (urls[0], b"abc")
        assert all(future.result() == b"abc" for _, future in fetched)


def test_results_that_wait_for_a_slow_one_are_bounded_in_bytes() -> None:
    started: list[int] = []
    release = threading.Event()

    def work(number: int) -> int:
        started.append(number)
        return number if number else release.wait(60)

    results = prefetch(range(1000), work, 2, lambda _: 100_000_000)
    next(results)
    assert len(started) <= 4 * 2 + 3
    release.set()
    assert [number for number, _ in results] == list(range(1, 1000))


def test_the_cache_keeps_what_was_fetched_and_retries_what_failed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    with serving(tmp_path) as server:
        downloader = Downloader(PATIENT, tmp_path / "cache")
        good, bad = f"{server.url}/ok/a.bin", f"{server.url}/gone/a.bin"
        for _ in range(2):
            assert downloader.fetch(good) == b"abc"
            with pytest.raises(MissingImage):
                downloader.fetch(bad)
        assert (server.asked["/ok/a.bin"], server.asked["/gone/a.bin"]) == (1, 2)
        downloader.forget(good)
        downloader.fetch(good)
        assert server.asked["/ok/a.bin"] == 2


@pytest.mark.parametrize("change", [{"timeout": 0}, {"max_bytes": -1}, {"retries": -1}])
def test_limits_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        DownloadSettings(**change)


def test_large_objects_are_read_entry_by_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {f'http://h/{n}?q="x",{{': f"coyo_image_0/00000/{n:09d}" for n in range(50)}
    for indent in (None, 1):
        for chunk in (5, 64, 1 << 20):
            monkeypatch.setattr("dataset_scripts.url_index._CHUNK", chunk)
            (tmp_path / "a.json").write_text(json.dumps(content, indent=indent))
            assert dict(iterate_pairs(str(tmp_path / "a.json"))) == content
    (tmp_path / "a.json").write_text(json.dumps(content)[:-200])
    with pytest.raises(ValueError, match="cut or damaged"):
        list(iterate_pairs(str(tmp_path / "a.json")))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        list(iterate_pairs(str(tmp_path / "a.json")))


@pytest.mark.parametrize("style", ["{p}{f}/{s}/{k}.jpg", "{f}/{s}/{k}", "{s}/{k}", "{k}"])
def test_keys_of_every_style_lead_to_their_url(tmp_path: Path, style: str) -> None:
    """The same bare key stands in several lists, as img2dataset numbers every list from 0."""
    (tmp_path / "url2key_jsons").mkdir()
    for folder in ("coyo_image_0", "coyo_image_1"):
        (tmp_path / folder).mkdir()
        keys = {}
        for part in ("00000", "00001"):
            urls = [f"http://h/{folder}/{part}/{n}" for n in range(3)]
            pq.write_table(pa.table({"url": urls, "caption": ["c"] * 3}), tmp_path / folder / f"{part}.parquet")
            for n, url in enumerate(urls):
                keys[url] = style.format(p="grit-20m/data-12m/", f=folder, s=part, k=f"{n:09d}")
        (tmp_path / "url2key_jsons" / f"url2key_{folder}.json").write_text(json.dumps(keys))
    report = Report()
    index = UrlIndex(tmp_path / "urls.sqlite").build(str(tmp_path), report)
    assert len(index) == 12
    assert index.url("grit-20m/data-12m/coyo_image_1/00001/000000002.jpg") == "http://h/coyo_image_1/00001/2"
    assert index.url("coyo_image_0/00000/000000001.png") == "http://h/coyo_image_0/00000/1"
    assert index.url("coyo_image_0/00002/000000001.jpg") is None
    assert report.kept == {"URLs with a key": 12, "URLs listed": 12}
    UrlIndex(tmp_path / "urls.sqlite").build(str(tmp_path), again := Report())
    assert not again.kept  # nothing is read twice


def test_join_keys_lose_prefix_and_suffix() -> None:
    assert join_key("grit-20m/data-12m/coyo_image_0/00000/1.jpg") == "coyo_image_0/00000/1"
    assert join_key("coyo_image_0/00000/1") == "coyo_image_0/00000/1"
