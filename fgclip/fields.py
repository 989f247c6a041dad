"""Dataclasses from what users write: texts of a command line, values of a YAML file, options of a parser."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEXTS = {"true": True, "false": False}


def build(cls: type, values: Any, where: str) -> Any:
    """A dataclass from values by field, nested dataclasses included.

    Args:
        where: what errors call it.

    Raises:
        ValueError: an unknown name, or a value of another type than the field's.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {values!r}; it must be a mapping of settings.")
    known = [field.name for field in dataclasses.fields(cls)]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"{where} has no {', '.join(unknown)}; there are {', '.join(known)}.")
    hints = typing.get_type_hints(cls)
    return cls(**{name: typed(value, hints[name], f"{where}.{name}") for name, value in values.items()})


def typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as a field of this type takes it: texts are read, tuples and lists from `a,b,c` too.

    Raises:
        ValueError: it is of another type.
    """
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for kind in kinds:
        try:
            return _as(value, kind, where)
        except (TypeError, OverflowError):
            continue
    names = " or ".join("nothing" if kind is type(None) else _named(kind) for kind in kinds)
    raise ValueError(f"{where} is {value!r}; it must be {names}.")


def _as(value: Any, kind: Any, where: str) -> Any:
    """Raises:
    TypeError: the value is of another kind.
    """
    origin = typing.get_origin(kind) or kind
    if kind is Any:
        return value
    if origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
    elif dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return build(kind, value, where)
    elif origin in (tuple, list):
        parts = [part for part in value.split(",") if part] if isinstance(value, str) else value
        if isinstance(parts, (tuple, list)):
            inner = next(iter(typing.get_args(kind)), Any)
            return origin(typed(part, inner, where) for part in parts)
    elif kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    elif kind in (int, float) and isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            raise TypeError from None
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif kind is bool and isinstance(value, str) and value.lower() in _TEXTS:
        return _TEXTS[value.lower()]
    elif isinstance(origin, type) and isinstance(value, origin) and not (kind is int and isinstance(value, bool)):
        return value
    raise TypeError


def _named(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return {bool: "true or false"}.get(kind) or getattr(kind, "__name__", str(kind))


def add_options(parser: argparse.ArgumentParser, cls: type, title: str) -> None:
    """A group of options, one a field of a dataclass, whose metadata hold `help` and `choices`.

    A field that is true or false is a flag, which may take the word; a tuple or list takes several words.
    """
    group, hints = parser.add_argument_group(title), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
        several = typing.get_origin(hint) in (tuple, list) or any(typing.get_origin(k) in (tuple, list) for k in kinds)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        required = default is dataclasses.MISSING
        shown = "" if required or default in (None, "", [], False) else f" (default: {_shown(default)})"
        group.add_argument(
            f"--{field.name}",
            type=_reader(field.name, hint, several),
            nargs="+" if several else "?" if hint is bool else None,
            default=None if required else default,
            required=required,
            help=(_help(cls, field.name) + shown).replace("%", "%%"),
            **({"const": True} if hint is bool else {}),
            **({"choices": field.metadata["choices"]} if "choices" in field.metadata else {}),
        )


def _reader(name: str, hint: Any, several: bool) -> Any:
    """What argparse reads a word with."""

    def read(text: str) -> Any:
        try:
            return typed([text], hint, f"--{name}")[0] if several else typed(text, hint, f"--{name}")
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)


def _help(cls: type, name: str) -> str:
    """A dataclass that changes a default keeps what its base says about the field."""
    fields = (base.__dict__.get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    return next((text for field in fields if field and (text := field.metadata.get("help"))), "")
