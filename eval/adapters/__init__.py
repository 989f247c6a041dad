"""Models behind one interface. `adapter_for` wraps a model in memory, `load_adapter` a checkpoint."""

from __future__ import annotations

import importlib
import json
from typing import Any

from transformers import PreTrainedConfig

from eval.adapters.base import ModelAdapter
from eval.adapters.clip import CLIPAdapter
from eval.adapters.fgclip import FGCLIPAdapter
from eval.adapters.fgclip2 import FGCLIP2Adapter
from eval.adapters.longclip import load_longclip
from eval.adapters.open_clip import OpenCLIPAdapter
from eval.adapters.siglip import Siglip2NaFlexAdapter, SiglipAdapter
from eval.names import name_of
from modeling_fgclip.checked_loading import check_finite

__all__ = [
    "CLIPAdapter",
    "FGCLIP2Adapter",
    "FGCLIPAdapter",
    "ModelAdapter",
    "OpenCLIPAdapter",
    "Siglip2NaFlexAdapter",
    "SiglipAdapter",
    "adapter_for",
    "load_adapter",
    "load_longclip",
]

_BY_TYPE = {
    "fgclip": FGCLIPAdapter,
    "fgclip2": FGCLIP2Adapter,
    "clip": CLIPAdapter,
    "siglip": SiglipAdapter,
    "siglip2": Siglip2NaFlexAdapter,
}


def adapter_for(model: Any, processor: Any, name: str | None = None) -> ModelAdapter:
    """The adapter of a transformers model in memory.

    Args:
        model: FG-CLIP, FG-CLIP 2, CLIP, SigLIP or SigLIP 2.
        processor: the model's, which knows its resolution and text lengths.
        name: what reports call it; by default the model's class.
    Raises:
        ValueError: no processor, or a model that no adapter knows.
    """
    if processor is None:
        raise ValueError("a model in memory needs its processor (or pass a ModelAdapter, which has its own).")
    adapter = _BY_TYPE.get(getattr(getattr(model, "config", None), "model_type", None))
    if adapter is not None:
        return adapter(model, processor, name or type(model).__name__.removesuffix("Model"))
    raise ValueError(f"no adapter for {type(model).__name__}; write a subclass of eval.adapters.ModelAdapter.")


def load_adapter(
    checkpoint: str, name: str | None = None, revision: str | None = None, custom: str | None = None
) -> ModelAdapter:
    """The adapter of a checkpoint, chosen by its config.

    Args:
        checkpoint: Hub id or folder; `open_clip:NAME[:PRETRAINED]`; `longclip:FILE.safetensors[:PROCESSOR]`.
        name: what reports call it; a folder's last two parts unless given. revision: of a Hub repository.
        custom: "package.module:Class", called with the checkpoint, for a model of one's own.
    Raises:
        ValueError: an architecture without an adapter, a class that is none, or unsound weights.
    """
    adapter = _load(checkpoint, {"revision": revision} if revision else {}, custom)
    check_finite(adapter.model, checkpoint)  # whatever library has loaded it
    adapter.name = name or name_of(adapter.name)
    return adapter


def _load(checkpoint: str, kwargs: dict[str, str], custom: str | None) -> ModelAdapter:
    if custom:
        module, _, attribute = custom.partition(":")
        try:
            made = getattr(importlib.import_module(module), attribute)(checkpoint)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"--adapter needs package.module:Class; {custom!r} gives {error}.") from None
        if not isinstance(made, ModelAdapter):
            raise ValueError(
                f"{custom} made a {type(made).__name__}; it must be a subclass of eval.adapters.ModelAdapter."
            )
        return made
    scheme, _, rest = checkpoint.partition(":")
    if scheme == "open_clip":
        architecture, _, pretrained = (
            rest.rpartition(":") if rest.count(":") and not rest.startswith("hf-hub:") else (rest, "", "")
        )
        return OpenCLIPAdapter.from_pretrained(architecture, pretrained or None)
    if scheme == "longclip":
        file, _, processor = rest.partition(":")
        return load_longclip(file, processor or None)
    try:
        config, _ = PreTrainedConfig.get_config_dict(checkpoint, **kwargs)
    except OSError as error:
        raise ValueError(
            f"{checkpoint!r} is neither a folder with a config.json nor a Hub repository: {error}"
        ) from None
    kind = config.get("model_type")
    # The published FG-CLIP says model_type clip; its architecture and code names tell.
    if kind == "clip" and "FGCLIP" in json.dumps([config.get("architectures"), config.get("auto_map")]):
        kind = "fgclip"
    if kind not in _BY_TYPE:
        raise ValueError(
            f"{checkpoint} is of type {kind!r}; there are adapters for {', '.join(_BY_TYPE)}, open_clip:NAME and longclip:FILE. "
            "For another model write a subclass of eval.adapters.ModelAdapter and pass it by --adapter."
        )
    try:
        return _BY_TYPE[kind].from_pretrained(checkpoint, **kwargs)
    except OSError as error:
        raise ValueError(
            f"{checkpoint} is not complete: an evaluation needs weights, image processor and tokenizer. {error}"
        ) from None
