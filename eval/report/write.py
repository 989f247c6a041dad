"""The files of a run: results.json, report.md, report.html, model-index.yml."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from eval.report.content import report
from eval.report.html import to_html
from eval.report.markdown import to_markdown
from eval.report.model_index import model_index_yaml
from eval.results import Result, load_result, write_atomically, write_results


def environment() -> dict[str, str]:
    """Versions and hardware, for the record."""
    versions = {}
    for package in ("fgclip", "torch", "transformers", "datasets", "accelerate", "evaluate", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"python": platform.python_version(), **versions, "platform": platform.machine(), "device": device}


def load_run(folder: Path) -> dict[str, Result]:
    """The results of a finished run, by label.

    Raises:
        ValueError: the folder holds none.
    """
    files = sorted((folder / "results").glob("*.json"))
    if not files:
        raise ValueError(f"{folder} holds no results; it must be the --output of a run of `python -m eval`.")
    return {file.stem: load_result(file.parent, file.stem) for file in files}


def write_report(results: Mapping[str, Result], folder: Path, compare: Path | None = None) -> list[Path]:
    """Write a run's files.

    Args:
        compare: folder of an earlier run to compare with.
    Returns:
        their paths.
    """
    document = report(results, environment(), load_run(compare) if compare else None)
    model = next((str(result.settings.get("model")) for result in results.values()), "model")
    texts = {
        "report.md": to_markdown(document),
        "report.html": to_html(document),
        "model-index.yml": model_index_yaml(results, model),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [write_results(results, folder / "results.json"), *[folder / name for name in texts]]
