"""What of a step's settings its output depends on, said where each setting is declared."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def operational(default: Any) -> Any:
    """A field that changes how a step runs, not what comes out: a run may be resumed with another value."""
    return dataclasses.field(default=default, metadata={"operational": True})


def names_file(default: Any, digest: Callable[[Any], str]) -> Any:
    """A field that names a file; its contents, as `digest` of the value, count as well as its name."""
    return dataclasses.field(default=default, metadata={"digest": digest})


def identity(settings: Any) -> dict[str, Any] | None:
    """JSON-ready: what of the settings the output depends on, with digests of the files that they name."""
    if settings is None:
        return None
    kept: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        if field.metadata.get("operational"):
            continue
        value = getattr(settings, field.name)
        kept[field.name] = identity(value) if dataclasses.is_dataclass(value) else value
        if "digest" in field.metadata:
            kept[f"{field.name} file"] = field.metadata["digest"](value)
    return kept
