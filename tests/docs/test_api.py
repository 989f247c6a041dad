"""The API reference: whatever the pages import is in it, with a docstring that says what a caller must know."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from .blocks import ROOT, blocks, pages

PACKAGES = ("modeling_fgclip", "dataset_scripts", "training", "eval")


def imported() -> set[tuple[str, str]]:
    """(module, name) of everything of ours that a page's Python or a notebook imports."""
    programs = [block.code for page in pages() for block in blocks(page) if block.language == "python"]
    nbformat = pytest.importorskip("nbformat", reason="install the extra dev")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        programs += [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return {
        (node.module, alias.name)
        for program in programs
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in PACKAGES
        for alias in node.names
    }


NAMES = sorted(imported())


def functions_of(value: Any) -> list[Any]:
    """What a caller calls: a function, or the public methods that a class of ours defines."""
    if inspect.isfunction(value):
        return [value]
    if inspect.isclass(value):
        return [one for name, one in vars(value).items() if inspect.isfunction(one) and not name.startswith("_")]
    return []


def raises_value_error(function: Any) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(
        isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and getattr(node.exc.func, "id", "") == "ValueError"
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module}.{name}" for module, name in NAMES])
def test_docstrings_say_what_a_caller_must_know(module: str, name: str):
    value = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return  # a constant
    assert inspect.getdoc(value)
    for function in functions_of(value):
        text = inspect.getdoc(function) or ""
        given = [one for one in inspect.signature(function).parameters if one not in ("self", "cls", "kwargs")]
        assert text, f"{function.__qualname__} has no docstring"
        assert len(given) < 3 or "Args:" in text, f"{function.__qualname__} takes {given}, and says of none what it is"
        if raises_value_error(function):
            assert "Raises:" in text or "ValueError" in text, f"{function.__qualname__} raises, and does not say so"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pdoc") is None, reason="install the extra docs")
def test_everything_that_the_pages_import_is_in_the_reference(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "api.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "index.html").is_file()
    missing = []
    for module, name in NAMES:
        home = getattr(getattr(importlib.import_module(module), name), "__module__", module)
        found = [tmp_path / f"{one.replace('.', '/')}.html" for one in (module, home)]
        if not any(f'id="{name}"' in one.read_text(encoding="utf-8") for one in found if one.is_file()):
            missing.append(f"{module}.{name}")
    assert missing == []
