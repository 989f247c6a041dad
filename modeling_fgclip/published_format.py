"""The format of the published repositories: their configuration, preprocessing and auto_map.

Two directions stay open to people on old code: `write_published` gives them our weights in that format, and
`write_code` gives a published repository our code. Neither travels with checkpoints.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from .checkpoint_folder import code_files, write_json
from .configuration_fgclip import FGCLIPConfig
from .configuration_fgclip2 import FGCLIP2Config
from .family import FGCLIP2, family_of
from .integrations import custom_pipelines, write_sentence_transformers
from .modeling_fgclip import FGCLIPModel
from .modeling_fgclip2 import TEMPERATURES, FGCLIP2Model
from .processing_fgclip import FGCLIPProcessor
from .processing_fgclip2 import FGCLIP2Processor

PUBLISHED_AUTO_MAP = {
    "AutoConfig": "modeling_fgclip.FGCLIPConfig",
    "AutoModelForCausalLM": "modeling_fgclip.FGCLIPModel",
}
PUBLISHED_AUTO_MAP2 = {
    "AutoConfig": "configuration_fgclip2.Fgclip2Config",
    "AutoModelForCausalLM": "modeling_fgclip2.Fgclip2Model",
}
# SigLIP's historical ids, which every published configuration of FG-CLIP 2 repeats; its code reads none of them.
_PUBLISHED_IDS2 = {"pad_token_id": 1, "bos_token_id": 49406, "eos_token_id": 49407}
# Fields of ours that the published configuration does not know; it has their defaults built in.
_FIXED_TEXT = {"kept_positions": 20, "position_stretch": 4, "max_position_embeddings": 77}


def published_config(config: FGCLIPConfig) -> dict[str, Any]:
    """The configuration as published repositories write it.

    Raises:
        ValueError: for a setting that the published code has fixed otherwise.
    """
    text = config.text_config
    for name, fixed in _FIXED_TEXT.items():
        if getattr(text, name) != fixed:
            raise ValueError(f"Received {name}={getattr(text, name)}; the published code knows only {fixed}.")
    if config.roi_pooling_size != 1:
        raise ValueError(f"Received roi_pooling_size={config.roi_pooling_size}; the published code knows only 1.")
    if text.eos_token_id != 49407:
        raise ValueError(
            f"Received a tokenizer whose end token is {text.eos_token_id}; the published code has CLIP's 49407 built in, "
            "so only checkpoints with CLIP's tokenizer can be written in its format."
        )
    written = json.loads(config.to_json_string(use_diff=False))
    shared = ("initializer_factor", "logit_scale_init_value", "projection_dim")
    part = ("hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads")
    part += ("hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range", "initializer_factor")
    text_part, vision_part = written["text_config"], written["vision_config"]
    return {
        "architectures": ["FGCLIPModel"],
        "auto_map": PUBLISHED_AUTO_MAP,
        "model_type": "clip",
        **{name: written[name] for name in shared},
        "text_config": {
            **{name: text_part[name] for name in (*part, "vocab_size", "max_position_embeddings")},
            "model_type": "clip_text_model",
            # CLIP's historical ids; the published code pools at 49407 whatever stands here.
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        },
        "text_config_dict": None,
        "vision_config": {
            **{name: vision_part[name] for name in (*part, "image_size", "patch_size")},
            "model_type": "clip_vision_model",
        },
        "vision_config_dict": None,
        "torch_dtype": "float32",
    }


def published_config2(config: FGCLIP2Config) -> dict[str, Any]:
    """The configuration as published repositories of FG-CLIP 2 write it."""
    written = json.loads(config.to_json_string(use_diff=False))
    part = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    part += ("hidden_act", "layer_norm_eps", "attention_dropout", "model_type")
    text = ("vocab_size", "max_position_embeddings", "keep_len", "longtext_len", "projection_size")
    vision = ("num_patches", "patch_size", "num_channels")
    return {
        "architectures": ["Fgclip2Model"],
        "auto_map": PUBLISHED_AUTO_MAP2,
        "initializer_factor": written["initializer_factor"],
        "model_type": "fgclip2",
        "text_config": {**{name: written["text_config"][name] for name in (*part, *text)}, **_PUBLISHED_IDS2},
        "vision_config": {name: written["vision_config"][name] for name in (*part, *vision)},
        "torch_dtype": "float32",
    }


def write_published(
    model: FGCLIPModel | FGCLIP2Model, processor: FGCLIPProcessor | FGCLIP2Processor, output: Path
) -> None:
    """Writes weights, configuration, preprocessing and tokenizer as the published repositories hold them."""
    is_second = family_of(model) is FGCLIP2
    config = published_config2(model.config) if is_second else published_config(model.config)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "config.json", config)
    # Published checkpoints of FG-CLIP 2 are without the two temperatures of training.
    left_out = TEMPERATURES if is_second else ()
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items() if name not in left_out}
    save_file(state, output / "model.safetensors", metadata={"format": "pt"})
    processor.tokenizer.save_pretrained(output)
    write_json(
        output / "preprocessor_config.json", _preprocessing2(processor) if is_second else _preprocessing(processor)
    )


def _preprocessing2(processor: FGCLIP2Processor) -> dict[str, Any]:
    images = processor.image_processor
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(images.image_mean),
        "image_processor_type": "Siglip2ImageProcessor",
        "image_std": list(images.image_std),
        "max_num_patches": 256,
        "patch_size": images.patch_size,
        "resample": int(images.resample),
        "rescale_factor": images.rescale_factor,
    }


def _preprocessing(processor: FGCLIPProcessor) -> dict[str, Any]:
    images, side = processor.image_processor, processor.image_size
    return {
        "crop_size": side,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(images.image_mean),
        "image_std": list(images.image_std),
        "resample": int(images.resample),
        "size": side,
    }


def write_code(source: Path, output: Path) -> list[str]:
    """Writes what a published repository lacks to be loaded by the Auto classes; weights stay as they are.

    Args:
        source: folder with the published config.json, preprocessor_config.json and tokenizer files.
        output: folder to lay over the repository, as a pull request.

    Returns:
        the names of the files written. `model_type` stays what it is (FG-CLIP's is `clip`), so whatever loads the
        repository as a plain CLIP goes on working.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    family = family_of(source)
    family.config.from_pretrained(source)
    output.mkdir(parents=True, exist_ok=True)
    family.processor.from_pretrained(source).save_pretrained(output)
    # The tokenizer is in the repository already; only the processor's own file is new.
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"):
        (output / name).unlink(missing_ok=True)
    for file in code_files(family):
        shutil.copyfile(file, output / file.name)
    config |= {"auto_map": {**config.get("auto_map", {}), **family.auto_map}, "custom_pipelines": custom_pipelines()}
    write_json(output / "config.json", config)
    write_sentence_transformers(output, family.model_type)
    return sorted(path.name for path in output.iterdir())
