"""Checkpoint folders: which files belong to one, and the completion of one that older code wrote.

Stays here: it does not travel with checkpoints.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from .family import FAMILIES, Family
from .integrations import custom_pipelines, sentence_transformers_files, write_sentence_transformers


def code_files(family: Family) -> list[Path]:
    """The files of this package that a checkpoint carries, found by following their relative imports."""
    roots = [Path(module.__file__) for module in family.code]
    needed = {Path(file) for root in roots for file in get_relative_import_files(root)}
    return sorted({*roots, *needed})


def family_in(folder: str | Path) -> Family:
    """The family of a checkpoint folder that `save_pretrained` wrote.

    Raises:
        ValueError: where there is no configuration of FG-CLIP or FG-CLIP 2.
    """
    config_file = Path(folder) / "config.json"
    config = read_json(config_file) if config_file.is_file() else {}
    if config.get("model_type") not in FAMILIES:
        raise ValueError(
            f"{folder} holds no FG-CLIP checkpoint: its config.json "
            + (f"says model_type {config.get('model_type')!r}." if config else "is missing.")
            + " Save model and processor there with `save_pretrained`, or convert with `python -m "
            "modeling_fgclip.convert`."
        )
    return FAMILIES[config["model_type"]]


def add_integrations(folder: str | Path) -> None:
    """Gives a folder the remote code, the region pipeline and sentence-transformers' files of this version.

    Raises:
        ValueError: where there is no configuration of FG-CLIP or FG-CLIP 2.
    """
    folder = Path(folder)
    family = family_in(folder)
    config_file = folder / "config.json"
    config = read_json(config_file)
    write_json(config_file, {**config, "custom_pipelines": custom_pipelines()})
    for file in code_files(family):
        shutil.copyfile(file, folder / file.name)
    write_sentence_transformers(folder, family.model_type)


def repository_files(folder: str | Path) -> list[str]:
    """Names of the files of a checkpoint folder that belong into a repository; everything else stays at home.

    Weights as safetensors (and their index), configurations, tokenizer, remote code; no pickle, no optimizer state,
    no logs, no sub-folders.
    """
    family = family_in(folder)
    allowed = {
        "config.json",
        "processor_config.json",
        "preprocessor_config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "README.md",
        *sentence_transformers_files(family.model_type),
        *(file.name for file in code_files(family)),
    }
    names = [path.name for path in Path(folder).iterdir() if path.is_file()]
    return sorted(
        name for name in names if name in allowed or (name.startswith("model") and name.endswith(".safetensors"))
    )


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
