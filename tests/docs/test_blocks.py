"""Every code block of every page: its commands are read by their programs, its data by the readers, its Python compiles.

`test_pages.py` runs those that say so.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from dataset_scripts.formats.table import read_table

from .blocks import ROOT, Block, blocks, name, pages
from .commands import OTHERS, check, command_lines

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [
    (name(block.page), words) for block in BLOCKS if block.language == "bash" for words in command_lines(block.code)
]
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
SHOWN = 2  # blocks that no test reads; whoever adds one raises this number on purpose


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}-{shlex.join(words)[:60]}" for page, words in COMMANDS]
)
def test_commands_are_understood(page: str, words: list[str], monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    check(words)


def test_programs_of_others_are_those_in_use():
    assert {Path(words[0]).name for _, words in COMMANDS} >= OTHERS


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{name(block.page)}-{block.language}")
def test_other_blocks(block: Block, tmp_path: Path):
    file = block.value("file")
    if file:
        (tmp_path / file).write_text(block.code, encoding="utf-8")
    if block.says("shown"):
        return
    if block.language == "python":
        compile(block.code, str(block.page), "exec")
    elif block.language == "yaml":
        assert isinstance(yaml.safe_load(block.code), dict)
    elif block.language in ("csv", "json") and file:
        rows = [row for _, row in read_table(tmp_path / file, [])]
        assert rows
        assert all(isinstance(row, dict) for row in rows)
    elif block.language == "json":
        json.loads(block.code)
    else:
        assert block.language == "bash", f"no test reads this block; mark it `shown`: {block.code[:200]}"


def test_blocks_that_no_test_reads_are_counted():
    assert len([block for block in BLOCKS if block.says("shown")]) == SHOWN


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_where_is_what_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [path for path in re.findall(r"`([a-z_]+/[\w/.]+)`", text) if "NAME" not in path]
    assert len(named) > 15
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "dataset_scripts/curation" / path).exists(), path
