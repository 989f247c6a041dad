"""What a checkpoint folder holds beside weights, so that other tools load it: pipelines and sentence-transformers."""

import json
from pathlib import Path
from typing import Any

from .pipeline_fgclip import TASK, RegionClassificationPipeline


def custom_pipelines() -> dict[str, Any]:
    """What config.json tells transformers about the region pipeline; a new one each time, since it writes into it."""
    implementation = f"pipeline_fgclip.{RegionClassificationPipeline.__name__}"
    return {TASK: {"impl": implementation, "pt": ["AutoModel"], "type": "multimodal"}}


def take_pipelines(config: Any, kwargs: dict[str, Any]) -> None:
    """Takes the pipelines that a configuration file names from the arguments of a configuration.

    With this package imported, the pipeline is registered with transformers and needs no code of the repository; with
    the repository's code alone, transformers finds it by this attribute.
    """
    kwargs.pop("custom_pipelines", None)
    if type(config).__module__.startswith("transformers_modules."):
        config.custom_pipelines = custom_pipelines()


class SavesWhole:
    """Mixin of models whose `save_pretrained` writes sentence-transformers' files as well."""

    def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **kwargs: Any) -> None:
        """`PreTrainedModel.save_pretrained`; the folder then loads in sentence-transformers, with unit vectors."""
        if is_main_process:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            write_sentence_transformers(save_directory, self.config.model_type)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)


def sentence_transformers_files(model_type: str) -> dict[str, Any]:
    """File names → contents. sentence-transformers asks the model for the methods and normalizes what they return."""
    # FG-CLIP's methods return transformers' output object when asked for one, as sentence-transformers does.
    output = "pooler_output" if model_type == "fgclip" else None
    settings: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": {
            "text": {"method": "get_text_features", "method_output_name": output},
            "image": {"method": "get_image_features", "method_output_name": output},
        },
        "module_output_name": "sentence_embedding",
    }
    if model_type == "fgclip":
        # Texts over 77 tokens are read as long text instead of being cut.
        settings["processing_kwargs"] = {"text": {"long_text": "auto"}}
    modules = {"0": ("", "transformer.Transformer"), "1": ("1_Normalize", "normalize.Normalize")}
    return {
        "modules.json": [
            {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.base.modules.{module}"}
            for name, (path, module) in modules.items()
        ],
        "sentence_bert_config.json": settings,
        "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
    }


def write_sentence_transformers(folder: str | Path, model_type: str) -> None:
    for name, content in sentence_transformers_files(model_type).items():
        (Path(folder) / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


__all__ = [
    "SavesWhole",
    "custom_pipelines",
    "sentence_transformers_files",
    "take_pipelines",
    "write_sentence_transformers",
]
