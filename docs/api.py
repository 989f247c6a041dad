"""The API reference, from the docstrings: ``python docs/api.py OUTPUT`` (``make docs``), with pdoc."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("modeling_fgclip", "dataset_scripts", "training", "eval")
_PROGRAM = re.compile(r"eval\.metrics\.\w+\.app")  # of a Space, which starts when it is imported


def not_importable() -> list[str]:
    """Modules that need an extra which is not installed."""
    found = []
    for package in PACKAGES:
        for one in pkgutil.walk_packages([str(ROOT / package)], f"{package}.", onerror=found.append):
            if one.name.endswith("__main__"):
                continue
            if _PROGRAM.fullmatch(one.name):
                found.append(one.name)
                continue
            try:
                importlib.import_module(one.name)
            except ImportError:
                found.append(one.name)
    return found


def resolve_lazy_names() -> None:
    """pdoc shows what a package's `__all__` names, and that alone; it does not see names that are imported when asked for."""
    for name, package in list(sys.modules.items()):
        if name.split(".")[0] not in PACKAGES or not hasattr(package, "__path__") or not hasattr(package, "__all__"):
            continue
        shown = []
        for one in package.__all__:
            try:
                setattr(package, one, getattr(package, one))
            except ImportError:  # of an extra
                continue
            shown.append(one)
        modules = [one.name for one in pkgutil.iter_modules(package.__path__) if not one.name.startswith("_")]
        package.__all__ = [*shown, *modules]


def write(output: Path) -> list[str]:
    """Writes ``index.html`` and a page for each module.

    Args:
        output: folder, made if it is not there.

    Returns:
        Names of the modules that are left out, since they need an extra which is not installed.
    """
    import pdoc

    left_out = not_importable()
    resolve_lazy_names()
    pdoc.render.configure(docformat="google", footer_text="FG-CLIP")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is left out, and of annotations in transformers' own signatures
        pdoc.pdoc(*PACKAGES, *(f"!{re.escape(name)}" for name in left_out), output_directory=output)
    return left_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", default=Path("outputs/docs"))
    output = parser.parse_args().output
    left_out = write(output)
    print(f"{output / 'index.html'}" + (f"; without {', '.join(left_out)}, whose extras are missing" * bool(left_out)))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
