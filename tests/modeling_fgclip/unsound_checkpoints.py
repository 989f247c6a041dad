"""Copies of a sound checkpoint with tensors missing, renamed, doubled or broken, as people have them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# name → what the refusal says
UNSOUND = {
    "prefix_module": r"'module\.'.*--strip-prefix module\.",
    "prefix_orig_mod": r"'_orig_mod\.'.*torch\.compile",
    "prefix_model": r"'model\.'",
    "missing_layer": r"lacks: vision_model\.encoder\.layers\.0\.mlp\.fc1\.weight \(1",
    "missing_text_projection": r"lacks: text_projection\.weight \(1",
    "missing_long_projection": r"lacks: text_filip_projection\.weight \(1",
    "unexpected": r"has besides: head\.weight",
    "other_shape": r"visual_projection\.weight \(\(5, 48\) stored",
    "nan": r"NaN or infinity in visual_projection\.weight",
    "sharded_missing_file": r"lacks model-00002-of-00002\.safetensors",
    "sharded_plus_stale": r"beside model\.safetensors\.index\.json",
}
SOUND = ("bf16", "sharded", "without_temperatures", "as_clip")
LONG = ("position_embedding_ori", "position_embedding_res", "text_filip_projection")
TEMPERATURES = ("logit_scale_finegraind", "logit_scale_hardneg")


def make(variant: str, source: Path, folder: Path) -> Path:
    """Writes one of the variants above."""
    shutil.copytree(source, folder)
    state = load_file(source / "model.safetensors")
    weights = "visual_projection.weight"
    if variant.startswith("prefix_"):
        prefix = {"orig_mod": "_orig_mod."}.get(variant[7:], f"{variant[7:]}.")
        state = {prefix + name: tensor for name, tensor in state.items()}
    elif variant.startswith("missing_"):
        name = {
            "missing_layer": "vision_model.encoder.layers.0.mlp.fc1.weight",
            "missing_text_projection": "text_projection.weight",
            "missing_long_projection": "text_filip_projection.weight",
        }[variant]
        del state[name]
    elif variant == "unexpected":
        state["head.weight"] = torch.zeros(3)
    elif variant == "other_shape":
        state[weights] = state[weights][:5].clone()
    elif variant == "nan":
        state[weights][0, 0] = float("nan")
    elif variant == "bf16":
        state = {name: tensor.bfloat16() for name, tensor in state.items()}
    elif variant == "without_temperatures":
        state = {name: tensor for name, tensor in state.items() if name not in TEMPERATURES}
    elif variant == "as_clip":
        state = {n: t for n, t in state.items() if n not in TEMPERATURES and not any(part in n for part in LONG)}
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    if variant.startswith("sharded"):
        _write_shards(state, folder)
        if variant == "sharded_missing_file":
            (folder / "model-00002-of-00002.safetensors").unlink()
        if variant != "sharded_plus_stale":
            (folder / "model.safetensors").unlink()
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _write_shards(state: dict[str, torch.Tensor], folder: Path) -> None:
    names, where = sorted(state), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
