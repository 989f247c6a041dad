"""open_clip checkpoints in CLIP's layout: names, the fused attention projections, and what cannot be mapped.

Stays here: it does not travel with checkpoints. open_clip's own library is not needed.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# Settings that change the computation, and the only values that CLIP's layout has.
_BLOCKS = {
    "ls_init_value": None,
    "norm_kwargs": None,
    "act_kwargs": None,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
_VISION = {
    **_BLOCKS,
    "timm_model_name": None,
    "attentional_pool": False,
    "pool_type": "tok",
    "global_average_pool": False,
    "final_ln_after_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "input_patchnorm": False,
}
_TEXT = {
    **_BLOCKS,
    "hf_model_name": None,
    "embed_cls": False,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_type": "linear",
    "proj_bias": False,
}
_MODEL = {"multimodal_cfg": None, "init_logit_bias": None}

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_VISION_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    # CLIP's own misspelling.
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TEXT_NAMES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}


def is_open_clip(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


def read_open_clip(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """Reads a folder as open_clip puts it on the Hub.

    Returns:
        CLIP configuration as a dictionary, state dict in transformers' CLIP layout, and the image preprocessing
        (`mean`, `std`, …).
    Raises:
        ValueError: for an architecture that CLIP's layout cannot hold, naming the setting, and without weights.
    """
    description = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise ValueError(f"{folder} holds {CONFIG_FILE} but none of {', '.join(WEIGHT_FILES)}.")
    state = load_file(weights) if weights.suffix == ".safetensors" else _load_tensors(weights)
    config = clip_config(description["model_cfg"])
    return config, clip_state(state, config), description.get("preprocess_cfg", {})


def clip_config(model: dict[str, Any]) -> dict[str, Any]:
    """open_clip's `model_cfg` as the fields of CLIPConfig.

    Raises:
        ValueError: naming the first setting that CLIP has no counterpart for.
    """
    vision, text = model["vision_cfg"], model["text_cfg"]
    for part, settings, plain in (("", model, _MODEL), ("vision_cfg.", vision, _VISION), ("text_cfg.", text, _TEXT)):
        for name, only in plain.items():
            value = settings.get(name, only)
            if value != only and not (value in (None, False) and only in (None, False)) and value != {}:
                raise ValueError(
                    f"Received an open_clip model with {part}{name}={value!r}, which CLIP's architecture does not have "
                    f"(it needs {only!r}). Only open_clip's plain ViT models can be converted."
                )
    if not isinstance(vision.get("layers"), int):
        raise ValueError(
            f"Received an open_clip model with layers={vision.get('layers')!r}: a ResNet. Only ViTs convert."
        )
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    vocab_size = text.get("vocab_size", 49408)
    image_size, patch_size = vision.get("image_size", 224), vision["patch_size"]
    for name, value in {"image_size": image_size, "patch_size": patch_size}.items():
        if not isinstance(value, int):
            raise ValueError(f"Received an open_clip model with {name}={value!r}; only square images convert.")
    return {
        "projection_dim": model["embed_dim"],
        "vision_config": {
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": image_size,
            "patch_size": patch_size,
            "hidden_act": activation,
            "projection_dim": model["embed_dim"],
        },
        "text_config": {
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text.get("context_length", 77),
            "vocab_size": vocab_size,
            "hidden_act": activation,
            "projection_dim": model["embed_dim"],
            # open_clip pools at the highest id, which its tokenizer ends every text with.
            "bos_token_id": vocab_size - 2,
            "eos_token_id": vocab_size - 1,
            "pad_token_id": vocab_size - 1,
        },
    }


def clip_state(state: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """An open_clip state dict under transformers' names; projections transposed, fused attention taken apart.

    Raises:
        ValueError: for a tensor that has no place, or a place that gets none.
    """
    # Models built as CustomTextCLIP keep the text tower under `text.`.
    state = {name.removeprefix("module.").removeprefix("text."): tensor for name, tensor in state.items()}
    mapped: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if name in ("attn_mask", "logit_scale"):
            if name == "logit_scale":
                mapped[name] = tensor.reshape(())
            continue
        if name == "visual.proj":
            mapped["visual_projection.weight"] = tensor.t().contiguous()
        elif name == "text_projection":
            mapped["text_projection.weight"] = tensor.t().contiguous()
        elif name == "text_projection.weight":
            mapped[name] = tensor
        elif plain := {**_VISION_NAMES, **_TEXT_NAMES}.get(name):
            mapped[plain] = tensor
        elif block := _block_tensors(name, tensor):
            mapped |= block
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"Received an open_clip checkpoint with {len(unknown)} tensors that CLIP has no place for: "
            f"{', '.join(sorted(unknown)[:5])}{', …' if len(unknown) > 5 else ''}. Only open_clip's plain ViTs convert."
        )
    layers = config["vision_config"]["num_hidden_layers"], config["text_config"]["num_hidden_layers"]
    expected = len(_VISION_NAMES) + len(_TEXT_NAMES) + 3 + 16 * sum(layers)
    if len(mapped) != expected:
        raise ValueError(
            f"Received an open_clip checkpoint of {len(mapped)} tensors, but its configuration ({layers[0]} vision and "
            f"{layers[1]} text layers) needs {expected}; the file is incomplete or belongs to another model."
        )
    return mapped


def _block_tensors(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tensors of a transformer block under CLIP's names; none if the name is not of a block."""
    for prefix, tower in (("visual.transformer.resblocks.", "vision_model"), ("transformer.resblocks.", "text_model")):
        if not name.startswith(prefix):
            continue
        layer, _, rest = name.removeprefix(prefix).partition(".")
        base = f"{tower}.encoder.layers.{layer}."
        if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = rest.rpartition("_")[2]
            parts = zip("qkv", tensor.chunk(3), strict=True)
            return {f"{base}self_attn.{letter}_proj.{kind}": part.clone() for letter, part in parts}
        module, _, kind = rest.rpartition(".")
        if module in _BLOCK:
            return {f"{base}{_BLOCK[module]}.{kind}": tensor}
    return {}


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("state_dict", state)
