"""Tiny checkpoints of every kind that LLaVA is built from."""

from pathlib import Path

from transformers import CLIPModel, SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.conftest import CAPTIONS, TINY, make_fgclip2_processor, make_processor, make_tiny_fgclip2, make_tiny_model
from training.llava.scratch import create_language_model

LANGUAGE_MODEL = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}


def write_language_model(folder: Path) -> Path:
    create_language_model(dict(LANGUAGE_MODEL), CAPTIONS * 4, folder)
    return folder


def write_tower(kind: str, folder: Path) -> Path:
    """`fgclip`, `fgclip2`, `clip` or `siglip`."""
    if kind == "fgclip2":
        processor = make_fgclip2_processor()
        model = make_tiny_fgclip2(processor)
    elif kind == "siglip":
        processor = SiglipImageProcessorPil(size={"height": 64, "width": 64})
        parts = {name: dict(TINY[name]) for name in ("text_config", "vision_config")}
        model = SiglipModel(SiglipConfig(**parts))
    else:
        processor = make_processor()
        model = make_tiny_model(processor)
        if kind == "clip":
            settings = model.config.to_dict()
            settings.pop("model_type")
            model = CLIPModel(
                CLIPModel.config_class(**{k: settings[k] for k in ("projection_dim", "text_config", "vision_config")})
            )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
