"""What a checkpoint folder holds beside weights, so that other tools load it: pipeline, sentence-transformers.

Stays here: it does not travel with checkpoints.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from . import pipeline_fgclip
from .family import FAMILIES, Family

CUSTOM_PIPELINES = {
    pipeline_fgclip.TASK: {
        "impl": f"pipeline_fgclip.{pipeline_fgclip.RegionClassificationPipeline.__name__}",
        "pt": ["AutoModel"],
        "type": "multimodal",
    }
}

# sentence-transformers asks the model for these methods and normalizes what they return.
SENTENCE_TRANSFORMERS = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Normalize",
            "type": "sentence_transformers.base.modules.normalize.Normalize",
        },
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            "text": {"method": "get_text_features", "method_output_name": None},
            "image": {"method": "get_image_features", "method_output_name": None},
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
}


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
    """Completes a folder written by `save_pretrained`: remote code, the region pipeline, sentence-transformers' files.

    Raises:
        ValueError: where there is no configuration of FG-CLIP or FG-CLIP 2.
    """
    folder = Path(folder)
    family = family_in(folder)
    config_file = folder / "config.json"
    config = read_json(config_file)
    write_json(config_file, {**config, "custom_pipelines": CUSTOM_PIPELINES})
    for file in code_files(family):
        shutil.copyfile(file, folder / file.name)
    for name, content in SENTENCE_TRANSFORMERS.items():
        write_json(folder / name, content)


def repository_files(folder: str | Path) -> list[str]:
    """Names of the files of a checkpoint folder that belong into a repository; everything else stays at home.

    Weights as safetensors (and their index), configurations, tokenizer, remote code; no pickle, no optimizer state,
    no logs, no sub-folders.
    """
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
        *SENTENCE_TRANSFORMERS,
        *(file.name for file in code_files(family_in(folder))),
    }
    names = [path.name for path in Path(folder).iterdir() if path.is_file()]
    return sorted(
        name for name in names if name in allowed or (name.startswith("model") and name.endswith(".safetensors"))
    )


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
