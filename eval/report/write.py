"""The files of a run: results.json, report.md, report.html, model-index.yml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dataset_scripts.atomic import write_text
from eval.report.content import report
from eval.report.html import to_html
from eval.report.markdown import to_markdown
from eval.report.model_index import model_index_yaml
from eval.results import Result, load_result, save_result, write_results


def load_run(folder: Path) -> dict[str, Result]:
    """The results of a finished run, by label.

    Raises:
        ValueError: the folder holds none, or those of several models.
    """
    files = sorted((folder / "results").glob("*.json"))
    if not files:
        raise ValueError(f"{folder} holds no results; it must be the --output of a run of `python -m eval`.")
    results = {file.stem: load_result(file.parent, file.stem) for file in files}
    if len({result.settings.get("fingerprint") for result in results.values()}) > 1:
        models = ", ".join(f"{label}: {result.settings.get('model')}" for label, result in results.items())
        raise ValueError(
            f"{folder} holds results of several models ({models}); a report speaks of one. Run them apart."
        )
    return results


def require_one_model(folder: Path, fingerprint: str, replaced: Sequence[str] = ()) -> None:
    """One folder holds the results of one model, since its report and its model card speak of one.

    Args:
        folder: of results. replaced: labels of results that are about to be replaced.
    Raises:
        ValueError: there are results of another.
    """
    for file in sorted(folder.glob("*.json")):
        found = load_result(folder, file.stem).settings
        if found.get("fingerprint") != fingerprint and file.stem not in replaced:
            raise ValueError(
                f"{file} was made by other weights, another preprocessing or adapter, or an earlier version (model "
                f"{found.get('model')!r}). Give another --output, or delete {folder} if its results are no longer wanted."
            )


def renamed(folder: Path, model: str) -> dict[str, Result]:
    """All results of a folder under today's name of their model, which may be another than when they were made."""
    results = load_run(folder.parent)
    for label, result in results.items():
        if result.settings["model"] != model:
            result.settings["model"] = model
            save_result(result, folder, label)
    return results


def write_report(
    results: Mapping[str, Result], folder: Path, earlier: Mapping[str, Result] | None = None
) -> list[Path]:
    """Write a run's files.

    Args:
        earlier: results of another run to compare with.
    Returns:
        their paths.
    """
    document = report(results, earlier)
    model = next((str(result.settings.get("model")) for result in results.values()), "model")
    texts = {
        "report.md": to_markdown(document),
        "report.html": to_html(document),
        "model-index.yml": model_index_yaml(results, model),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [write_results(results, folder / "results.json"), *[folder / name for name in texts]]
