"""Tar files, sound, damaged and odd: every byte of them belongs to a member, to a counted fault, or is padding."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from dataset_scripts.own_data import Columns, webdataset_source
from dataset_scripts.report import Report
from dataset_scripts.streaming import load_training_data
from dataset_scripts.tar_files import Damage, Member, scan, tar_samples

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def archive(members: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def samples(number: int = 20, name: str = "{:06d}") -> list[tuple[str, bytes]]:
    """A JPEG and a text each, neither of a whole number of blocks."""
    rng = random.Random(0)
    return [
        (f"{name.format(n)}.{suffix}", rng.randbytes(rng.randrange(1, 3000)))
        for n in range(number)
        for suffix in ("jpg", "txt")
    ]


def check_accounts(data: bytes) -> tuple[dict[str, bytes], list[Damage]]:
    """Oracle: spans follow one another without overlap, and what lies between them is zero."""
    members, damages, place = {}, [], 0
    for found in scan(io.BytesIO(data)):
        assert found.start >= place
        assert not any(data[place : found.start])
        assert found.stop >= found.start
        place = found.stop
        if isinstance(found, Member):
            assert found.start < found.offset <= found.offset + found.size <= found.stop <= len(data)
            members[found.name] = data[found.offset : found.offset + found.size]
        else:
            damages.append(found)
    assert place <= len(data)
    assert not any(data[place:])
    return members, damages


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["{:06d}", "a/b/c.d/{:06d}", "x" * 120 + "{:06d}", "é" * 70 + "/{:06d}"])
def test_sound_archives_of_every_format(form: str, name: str) -> None:
    if form == "ustar" and len(name) > 100:
        name = "x" * 60 + "/" + name[-60:]
    content = samples(6, name)
    members, damages = check_accounts(archive(content, FORMATS[form]))
    assert members == dict(content)
    assert not damages


@pytest.mark.parametrize("form", FORMATS)
def test_a_flipped_bit_in_any_header_costs_one_member(form: str) -> None:
    content = samples()
    data = archive(content, FORMATS[form])
    headers = [found.start for found in scan(io.BytesIO(data))]
    rng = random.Random(1)
    for header in headers:
        damaged = bytearray(data)
        damaged[header + rng.randrange(140)] ^= 1 << rng.randrange(8)
        members, damages = check_accounts(bytes(damaged))
        lost = set(dict(content)) - set(members)
        assert [damage.start for damage in damages] == [header] * len(
            lost
        )  # a bit beside the checksum's digits costs none
        assert len(lost) <= 1
        assert all(members[name] == dict(content)[name] for name in members)


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_member_whose_long_name_is_lost_is_not_read_under_another(form: str) -> None:
    content = samples(4, "x" * 120 + "{:06d}")
    data = archive(content, FORMATS[form])
    starts = [found.start for found in scan(io.BytesIO(data))]
    for start in starts:
        for block in (0, 1, 2):  # the extension's header, its contents, the member's own header
            damaged = bytearray(data)
            damaged[start + 512 * block] ^= 0x80
            members, damages = check_accounts(bytes(damaged))
            if block != 1:  # a name is not secured by a checksum
                assert len(members) == len(content) - 1
                assert damages
                assert set(members) < set(dict(content))


def test_a_cut_at_any_place_is_told() -> None:
    content = samples(5)
    data = archive(content)
    rng = random.Random(2)
    end = max(found.stop for found in scan(io.BytesIO(data)))
    for cut in [0, 1, 511, 512, 513, end, end + 100, *(rng.randrange(end) for _ in range(200))]:
        members, damages = check_accounts(data[:cut])
        whole = [found for found in scan(io.BytesIO(data)) if found.offset + found.size <= cut]
        assert set(members) == {found.name for found in whole}
        assert bool(damages) == (cut <= end), cut


def test_random_damage_is_never_silent() -> None:
    """Oracle: a member is what it was, unless the damage lies in its own contents, or it is lost and damage is told."""
    content = dict(samples(12))
    data = archive(list(content.items()))
    spans = {found.name: found for found in scan(io.BytesIO(data))}
    rng = random.Random(3)
    for _ in range(500):
        damaged, start = bytearray(data), rng.randrange(len(data))
        stop = min(len(data), start + rng.choice((1, 4, 100, 600, 5000)))
        damaged[start:stop] = bytes(stop - start) if rng.random() < 0.3 else rng.randbytes(stop - start)
        members, damages = check_accounts(bytes(damaged))
        assert set(members) <= set(content)
        for name, found in spans.items():
            if name not in members:
                overwritten = not any(damaged[found.start : found.offset])  # zeros look like padding
                assert damages or overwritten
            elif stop <= found.offset or start >= found.offset + found.size:
                assert members[name] == content[name]


def test_archives_put_together_and_junk_behind_the_end() -> None:
    first, second = samples(2), [(f"b{name}", data) for name, data in samples(2)]
    members, damages = check_accounts(archive(first) + archive(second))
    assert (members, damages) == (dict(first + second), [])
    members, (damage,) = check_accounts(archive(first) + b"junk" * 300)
    assert members == dict(first)
    assert damage.stop - damage.start == 1200


def test_hostile_extensions_cost_nothing() -> None:
    info = tarfile.TarInfo("long")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 512
    header = info.tobuf(tarfile.GNU_FORMAT)
    members, (damage,) = check_accounts((header + bytes(512)) * 2000)
    assert not members
    assert (damage.start, damage.stop) == (0, 2000 * 1024)
    info.size = 8 << 30
    members, (damage,) = check_accounts(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "extension of 8589934592 bytes" in damage.reason


def places(data: bytes, **options) -> tuple[dict[str, dict[str, bytes]], Report]:
    report = Report()
    found = tar_samples(io.BytesIO(data), "x.tar", report, **options)
    return {
        key: {field: data[offset : offset + size] for field, (offset, size) in fields.items()}
        for key, fields in found.items()
    }, report


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "a.txt", "b.jpg", "b.txt"], {"a": {"jpg", "txt"}, "b": {"jpg", "txt"}}),
        (["./a.jpg", "./a.txt"], {"a": {"jpg", "txt"}}),
        (["a.jpg", "b.jpg", "a.txt", "b.txt"], {"a": {"jpg", "txt"}, "b": {"jpg", "txt"}}),  # not side by side
        (["x/a.jpg", "y/a.jpg"], {"x/a": {"jpg"}, "y/a": {"jpg"}}),
        (["v1.0/a.JPG", "v1.0/a.TXT"], {"v1.0/a": {"jpg", "txt"}}),
        (["a.jpg", "a.mask.png", "a.json"], {"a": {"jpg", "mask.png", "json"}}),
        (["a.2021.jpg", "a.2021.txt", "a.2022.jpg"], {"a.2021": {"jpg", "txt"}, "a.2022": {"jpg"}}),
        (["a", "b.txt"], {"a": {""}, "b": {"txt"}}),
    ],
)
def test_samples_of_every_layout(names: list[str], expected: dict[str, set[str]]) -> None:
    found, report = places(archive([(name, name.encode()) for name in names]))
    assert {key: set(fields) for key, fields in found.items()} == expected
    assert sorted(value.decode() for fields in found.values() for value in fields.values()) == sorted(names)
    assert not report.problems


def test_what_is_no_sample_is_counted() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, size in (
            ("folder", tarfile.DIRTYPE, 0),
            ("folder/link.jpg", tarfile.SYMTYPE, 0),
            ("folder/a.jpg", tarfile.REGTYPE, 50),
            ("folder/._a.jpg", tarfile.REGTYPE, 5),
            ("folder/a.jpg", tarfile.REGTYPE, 60),
            ("folder/huge.jpg", tarfile.REGTYPE, 5000),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, size, "a.jpg"
            tar.addfile(info, io.BytesIO(bytes(size)))
    found, report = places(buffer.getvalue(), max_bytes=1000)
    assert {key: {field: len(data) for field, data in fields.items()} for key, fields in found.items()} == {
        "folder/a": {"jpg": 60}
    }
    assert report.problems == {
        "tar member is a link or device": 1,
        "tar member is a hidden file": 1,
        "tar member is repeated": 1,
        "tar member is too large": 1,
    }
    assert report.examples["tar member is too large"] == ["x.tar folder/huge.jpg: '5,000 bytes'"]
    with pytest.raises(ValueError, match="link or device"):
        tar_samples(buffer, "x.tar", Report("raise"))


def test_damage_is_counted_with_its_bytes() -> None:
    data = bytearray(archive(samples(10)))
    data[0] ^= 1
    found, report = places(bytes(data))
    assert len(found) == 10  # the first one without its image
    assert report.problems == {"tar is cut or damaged": 1}
    assert report.examples["tar is cut or damaged"][0].startswith("x.tar bytes 0 to ")


def photographs(number: int, json_too: bool) -> list[tuple[str, bytes]]:
    rng = random.Random(4)
    members = []
    for n in range(number):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 24), (rng.randrange(256), n, 7)).save(buffer, "JPEG")
        record = {"caption": f"Text {n}", "short_captions": [], "regions": [], "source_id": str(n)}
        text = json.dumps(record) if json_too else f"Text {n}"
        members += [(f"{n:06d}.jpg", buffer.getvalue()), (f"{n:06d}.{'json' if json_too else 'txt'}", text.encode())]
    return members


def test_a_converted_tar_loses_one_record_to_a_bit_and_counts_it(tmp_path: Path) -> None:
    data = archive(photographs(20, json_too=False))
    headers = [found.start for found in scan(io.BytesIO(data))]
    for header in headers[::3]:
        damaged = bytearray(data)
        damaged[header] ^= 1
        folder = tmp_path / f"{header}"
        folder.mkdir()
        (folder / "x.tar").write_bytes(damaged)
        report = Report()
        drafts = list(webdataset_source(folder, Columns(caption="txt")).drafts(report))
        assert report.kept["records read"] == 20  # half of the sample is still there
        assert report.problems["tar is cut or damaged"] == 1
        mute = sum(draft["caption"] is None for draft in drafts)  # for a conversion to count
        assert report.problems["sample without an image"] + mute == 1
        assert len(drafts) - mute == 19


def test_a_streamed_tar_loses_one_record_to_a_bit_and_counts_it(tmp_path: Path) -> None:
    data = bytearray(archive(photographs(20, json_too=True)))
    starts = [found.start for found in scan(io.BytesIO(bytes(data)))]
    data[starts[10]] ^= 1
    (tmp_path / "train-00000.tar").write_bytes(data)
    stream = load_training_data(str(tmp_path), streaming=True)
    assert {record["source_id"] for record in stream} == {str(n) for n in range(20)} - {"5"}
    assert stream.report.problems["shard is cut or damaged"] == 1
    with pytest.raises(ValueError, match=rf"bytes {starts[10]:,} to {starts[11]:,}"):
        list(load_training_data(str(tmp_path), streaming=True, on_bad="raise"))


def test_tars_in_folders_and_one_alone(tmp_path: Path) -> None:
    for name in ("a/x.tar", "b/x.tar"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(archive(photographs(2, json_too=False)))
    for place, names in ((tmp_path, {"a/x/", "b/x/"}), (tmp_path / "a" / "x.tar", {"x/"})):
        source = webdataset_source(place, Columns(caption="txt"))
        drafts = list(source.drafts(Report("raise")))
        assert {draft["source_id"] for draft in drafts} == {f"{name}00000{n}" for name in names for n in range(2)}
        assert all(source.images.read(draft["image"])[:2] == b"\xff\xd8" for draft in drafts)
