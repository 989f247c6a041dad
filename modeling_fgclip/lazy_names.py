"""Names of a package that are imported when they are asked for, so that importing the package costs nothing."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """A package's `__getattr__` (PEP 562) and `__all__`.

    Args:
        package: its `__name__`.
        names: what it offers, by the module inside it that defines them. None is called as one of its modules: importing
            that one would hide the other.
    """
    modules = {name: module for module, some in names.items() for name in some}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return get, sorted(modules)
