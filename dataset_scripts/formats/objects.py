"""Boxes as data sets on the Hub hold them: a list of objects, or an object of parallel lists."""

from __future__ import annotations

from typing import Any

from dataset_scripts.formats.coco import category_words


def list_of_objects(value: Any) -> Any:
    """One object a box: ``{"bbox": [b1, b2], "category": [3, 5]}`` → ``[{"bbox": b1, "category": 3}, …]``.

    What is neither layout is given back as it is, for its judge to name.

    Raises:
        ValueError: the lists are not equally long.
    """
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("bbox"), list | tuple) or (
        value["bbox"] and not isinstance(value["bbox"][0], list | tuple | dict | type(None))
    ):
        return [value]  # one object, whose box is four numbers
    columns = {name: column for name, column in value.items() if isinstance(column, list | tuple)}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        held = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"parallel lists must be equally long; it holds {held}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def category_names(feature: Any) -> list[str] | None:
    """The names, in words, of the ``ClassLabel`` under ``category`` in a feature of ``datasets`` of either layout.

    None if there is no such feature, or one without names.
    """
    inner = getattr(feature, "feature", feature)  # of a list
    label = inner.get("category") if isinstance(inner, dict) else None
    names = getattr(getattr(label, "feature", label), "names", None)
    return [category_words(name) for name in names] if names else None
