from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from dataset_scripts import json_stream
from dataset_scripts.json_stream import DamagedRecord, iterate_records


def _record(number: int) -> dict:
    text = f'"{{quoted}}" \\ [brackets] {number} ü ☃'
    return {"f_path": f"a/{number}.jpg", "caption": text, "nested": {"list": [1, {"x": "}"}], "f": 1.5}}


@pytest.fixture(params=[7, 50, 1 << 20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_stream, "_CHUNK", request.param)
    return request.param


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_arrays_and_lines_read_like_json_load(tmp_path: Path, chunk: int, indent, ascii_only) -> None:
    records = [_record(n) for n in range(30)]
    array = tmp_path / "a.json"
    array.write_text(json.dumps(records, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert list(iterate_records(str(array))) == json.loads(array.read_text(encoding="utf-8"))
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps(r, ensure_ascii=ascii_only) for r in records) + "\n", encoding="utf-8")
    assert list(iterate_records(str(lines))) == records


def test_scalars_between_chunks_are_not_cut(tmp_path: Path, chunk: int) -> None:
    values = [12345678, "text", None, True, -1.25e10, {"a": 1}, "x" * 30]
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert list(iterate_records(str(tmp_path / "a.json"))) == values


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a missing comma", lambda text: text.replace('", "nested"', '" "nested"')),
        ("an unclosed brace", lambda text: text[:-1]),
        ("an unclosed quote", lambda text: text.replace('.jpg"', ".jpg")),
        ("cut in the middle", lambda text: text[: len(text) // 2]),
        ("an extra closing brace", lambda text: text.replace("}]", "}}]")),
        ("a bare word", lambda text: text.replace("1.5", "one")),
    ],
)
@pytest.mark.parametrize("at", [0, 4, 9])
def test_one_damaged_record_costs_no_other(tmp_path: Path, chunk: int, name, damage, at: int) -> None:
    texts = [json.dumps(_record(n)) for n in range(10)]
    assert damage(texts[at]) != texts[at]
    texts[at] = damage(texts[at])
    (tmp_path / "a.json").write_text("[" + ", ".join(texts) + "]")
    found = list(iterate_records(str(tmp_path / "a.json")))
    whole = [value for value in found if not isinstance(value, DamagedRecord) and "f_path" in value]
    assert whole == [_record(n) for n in range(10) if n != at]
    assert any(isinstance(value, DamagedRecord) for value in found)


def test_a_file_that_ends_in_a_record_gives_what_came_before(tmp_path: Path, chunk: int) -> None:
    text = json.dumps([_record(n) for n in range(5)])
    (tmp_path / "a.json").write_text(text[:-60])
    *whole, last = iterate_records(str(tmp_path / "a.json"))
    assert whole == [_record(n) for n in range(4)]
    assert isinstance(last, DamagedRecord)


def test_random_bytes_never_raise_or_hang(tmp_path: Path) -> None:
    rng = random.Random(0)
    alphabet = '{}[]",:\\ \n\ta1-.eftn'
    for _ in range(300):
        (tmp_path / "a.json").write_text("".join(rng.choice(alphabet) for _ in range(rng.randrange(200))))
        assert sum(1 for _ in iterate_records(str(tmp_path / "a.json"))) <= 200


def test_compressed_empty_and_marked_files(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps([{"a": 1}]).encode()))
    assert list(iterate_records(str(tmp_path / "a.json.gz"))) == [{"a": 1}]
    for text in ("", "[]", " \n", "\ufeff[]"):
        (tmp_path / "empty.json").write_text(text, encoding="utf-8")
        assert list(iterate_records(str(tmp_path / "empty.json"))) == []
    (tmp_path / "latin.json").write_bytes('[{"a": "caf\u00e9"}]'.encode("latin-1"))
    assert list(iterate_records(str(tmp_path / "latin.json"))) == [{"a": "caf\ufffd"}]
