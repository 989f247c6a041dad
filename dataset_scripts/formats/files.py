"""What all readers share: JSON files of any encoding, and keys that must be unique."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from dataset_scripts.json_stream import text_encoding
from dataset_scripts.report import Fault


def read_json(path: Path, encoding: str | None = None) -> Any:
    """A JSON file; a byte-order mark says its encoding, which is UTF-8 otherwise.

    Raises:
        ValueError: it is none.
    """
    data = path.read_bytes()
    try:
        return json.loads(data.decode(text_encoding(data[:4], encoding)))
    except (ValueError, RecursionError) as error:  # of JSON or of the encoding
        raise ValueError(f"{path} is not JSON ({error}); download or export it again") from None


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of each line of a text file that is not blank; a byte-order mark says its encoding, or it is UTF-8.

    Raises:
        ValueError: it is no text.
    """
    data = path.read_bytes()
    try:
        # Not splitlines, which takes letters that captions may hold for the ends of lines.
        lines = data.decode(text_encoding(data[:4])).split("\n")
    except ValueError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); download or export it again") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path.name}, line {number}", line


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of ``name: value``, such as a recipe; an empty one has no names.

    Raises:
        ValueError: it is none.
    """
    try:
        content = yaml.safe_load(path.read_bytes())  # which knows byte-order marks
    except Exception as error:  # besides its own errors: of dates, numbers, depth and encodings
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())})") from None
    if content is not None and not (isinstance(content, dict) and all(isinstance(name, str) for name in content)):
        raise ValueError(f"{path} holds {str(content)[:80]!r}; it must be a YAML file of NAME: VALUE")
    return content or {}


def named_file(name: str | Path, folder: Path, option: str) -> Path:
    """A user's YAML file, or the one of that name that lies in a folder of the package.

    Raises:
        ValueError: there is neither.
    """
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ValueError(f"Received {option} {name}, which is no file. Give one, or a name of these: {known}.")


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object with a list under each of these keys.

    Raises:
        ValueError: it is none.
    """
    content = read_json(path)
    lacking = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise ValueError(
            f"{path} has no list {' and no list '.join(lacking)}; it must be a JSON object with {list(keys)}"
        )
    return content


def check_unique(key: Hashable, where: str, seen: dict[Any, str], what: str) -> None:
    """Remembers where a key stands.

    Raises:
        Fault: it stands elsewhere as well. Nothing can be counted then: what names the key belongs to either.
    """
    if key in seen:
        raise Fault(
            f"{where} and {seen[key]} have the same {what} {key!r}, which must be unique; were two data sets put together? "
            "Give the entries of one of them new ones"
        )
    seen[key] = where


def places(entries: Iterable[Any], path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Each entry of a list in a file with its place, such as ``a.json, images[3]``."""
    for number, entry in enumerate(entries):
        yield f"{path.name}, {key}[{number}]" if key else f"{path.name}[{number}]", entry
