"""Text tables as programs and people write them."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import pytest

from dataset_scripts.formats.table import read_table
from dataset_scripts.json_stream import DamagedRecord
from dataset_scripts.own_data.mapping import captions_in
from dataset_scripts.report import Report

ROWS = [
    {"file": "a.png", "text": "A dog, a cat"},
    {"file": "b.png", "text": 'said "no"'},
    {"file": "c.png", "text": "café"},
]


def written(delimiter: str, **settings) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["file", "text"], delimiter=delimiter, **settings)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue()


def rows(path: Path, encoding: str | None = None) -> list:
    return [row for _, row in read_table(path, ["file", "text"], encoding)]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_writer_of_tables(tmp_path: Path, delimiter: str, quoting: int, ends: str, encoding: str) -> None:
    """UTF-16 with tabs is Excel's "Unicode text", cp1252 with semicolons its CSV in much of Europe."""
    text = written(delimiter, quoting=quoting, lineterminator=ends)
    for name in ("t.csv", "T.TXT", "t.tsv"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert rows(tmp_path / name, encoding if encoding == "cp1252" else None) == ROWS


def test_packed_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(written(",").encode()))
    assert rows(tmp_path / "t.csv.gz") == ROWS


def test_no_quoting_in_tsv(tmp_path: Path) -> None:
    cells = ['"no smoking', 'end"', '"', '""', '"Stop"', '5" pipe', "it's", '"a" and "b"', "a, b"]
    (tmp_path / "t.tsv").write_text("file\ttext\n" + "".join(f"{n}.png\t{cell}\n" for n, cell in enumerate(cells)))
    assert [row["text"] for row in rows(tmp_path / "t.tsv")] == cells


def test_a_damaged_row_costs_no_other(tmp_path: Path) -> None:
    lines = [
        "file,text", "0.png,plain", "1.png,a , b", '2.png,"open', '3.png,fine', "4.png", '5.png,"a" b', '6.png,"two', 'lines"',
        "7.png,x,", "", '8.png, "spaced, out"', '9.png,5" pipe',
    ]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = list(read_table(tmp_path / "t.csv", ["file", "text"]))
    good = {row["file"]: row["text"] for _, row in found if isinstance(row, dict)}
    assert good == {
        "0.png": "plain", "3.png": "fine", "6.png": "two\nlines", "7.png": "x", "8.png": "spaced, out", "9.png": '5" pipe',
    }  # fmt: skip
    assert [where for where, row in found if isinstance(row, DamagedRecord)] == [
        f"t.csv, line {number}" for number in (3, 4, 6, 7)
    ]


def test_cells_like_the_csv_module_writes_them(tmp_path: Path) -> None:
    """Oracle: whatever Python's writer writes comes back, at any size."""
    dice = random.Random(0)
    letters = "ab\"',;|\n é\u2028"
    expected = [[f"{n}.png", "".join(dice.choices(letters, k=dice.randint(1, 12)))] for n in range(500)]
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "text"], *expected])
    assert [row["text"].strip() for row in rows(tmp_path / "t.csv")] == [text.strip() for _, text in expected]


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.parquet"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"must be one of \.csv"):
        rows(tmp_path / name)


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"it's b\"]", ["a", "it's b"]),
        ("['a dog' 'a cat'\n 'a bird']", ["a dog", "a cat", "a bird"]),  # as NumPy prints an array
        ("[]", []),
        ("[Music]", ["[Music]"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[__import__('os')]", ["[__import__('os')]"]),
        (["a", "a", None, "b"], ["a", "b"]),
        ("nan", []),
        (float("nan"), []),
        (None, []),
    ],
)
def test_lists_of_captions_in_a_cell(cell, captions: list[str]) -> None:
    assert captions_in(cell, "caption", "t.csv, line 2", Report()) == captions
