"""The model card of a checkpoint folder, rendered from model_card.md with what the run left behind."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import safe_open

from eval.report.model_index import eval_results
from eval.report.write import load_run
from eval.results import Result
from modeling_fgclip.checkpoint_folder import family_in, read_json
from modeling_fgclip.family import FGCLIP

from .run_record import read_run_record

TEMPLATES = {
    "fgclip": Path(__file__).with_name("model_card.md"),
    "fgclip2": Path(__file__).with_name("model_card_fgclip2.md"),
}
LICENSE = "apache-2.0"


def render_card(
    folder: str | Path,
    repo_id: str,
    evaluation: str | Path | None = None,
    template: str | Path | None = None,
) -> ModelCard:
    """Renders the card of a checkpoint.

    Args:
        folder: checkpoint, with the `training_run.json` of the run that made it, if it was trained here.
        repo_id: where it is to be published; the usage example loads it from there.
        evaluation: `--output` of `python -m eval`, for the results.
        template: a Jinja template of a card; by default that of the family.

    Raises:
        ValueError: without the template, or for a folder without evaluation results.
    """
    family = family_in(folder)
    template = TEMPLATES[family.model_type] if template is None else template
    if not Path(template).is_file():
        raise ValueError(f"Found no card template at {template}; pass another one, or none for that of the family.")
    config = family.config.from_pretrained(folder)
    runs = _runs(read_run_record(folder))
    results: Mapping[str, Result] = load_run(evaluation) if evaluation is not None else {}
    base_model = runs[0]["base_model"] if runs else None
    data = ModelCardData(
        model_name=repo_id.split("/")[-1],
        license=LICENSE,
        language="en" if family is FGCLIP else ["en", "zh"],
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=[
            family.model_type,
            "clip" if family is FGCLIP else "siglip2",
            "fine-grained",
            "region",
            "sentence-transformers",
            "feature-extraction",
        ],
        base_model=base_model if base_model and _is_hub_id(base_model, folder) else None,
        eval_results=eval_results(results) or None,
    )
    processor = read_json(Path(folder) / "processor_config.json")
    vision = config.vision_config
    # A side in pixels; of FG-CLIP 2 the most patches an image is given.
    size = vision.image_size if family is FGCLIP else max(processor["image_processor"]["patch_budgets"])
    return ModelCard.from_template(
        data,
        template_path=str(template),
        repo_id=repo_id,
        runs=runs,
        scores=_scores(results),
        image_size=size,
        patch_size=vision.patch_size,
        short_text=processor.get("short_text_length", config.text_config.max_position_embeddings),
        long_text=processor.get("long_text_length", config.text_config.max_long_position_embeddings),
        dimension=config.projection_dim if family is FGCLIP else vision.hidden_size,
        parameters=_parameters(Path(folder)),
    )


def _runs(record: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The stages in the order they were trained."""
    runs: list[dict[str, Any]] = []
    while record is not None:
        runs.insert(0, record)
        record = record.get("previous")
    return runs


def _is_hub_id(name: str, folder: str | Path) -> bool:
    """Local folders are recorded by their last two parts, which look like an id but name nothing others could load."""
    return name.count("/") == 1 and not (Path(folder).absolute().parent.parent / name).exists()


def _scores(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    return [
        {
            "task": label,
            "name": name,
            "value": f"{100 * score.value:.1f}",
            "chance": "–" if score.chance is None else f"{100 * score.chance:.1f}",
            "control": "–" if score.control is None else f"{100 * score.control:.1f}",
            "count": score.count,
        }
        for label, result in results.items()
        for name, score in result.scores.items()
    ]


def _parameters(folder: Path) -> str:
    total = 0
    for path in folder.glob("model*.safetensors"):
        with safe_open(path, "pt") as file:
            names = file.keys()
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    return f"{total / 1e6:.1f} M"
