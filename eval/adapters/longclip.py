"""Long-CLIP checkpoints in their original layout (OpenAI's names, 248 text positions in two tables)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPProcessor

from eval.adapters.clip import CLIPAdapter
from modeling_fgclip.open_clip_layout import clip_state

KEPT = 20  # positions that come from the first table (Zhang et al., 2024, section 3.2)
# What OpenAI stores beside the weights, and the table that was joined to the first.
_NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "positional_embedding_res"}
HEAD = 64  # width of an attention head in every OpenAI model


def load_longclip(file: str, processor: str | None = None) -> CLIPAdapter:
    """A Long-CLIP checkpoint as a transformers CLIP.

    Args:
        file: the state dict in safetensors.
        processor: folder or Hub id of a CLIP processor of the same resolution; default: OpenAI's of the same size.
    Raises:
        ValueError: a pickle, or not a Long-CLIP state dict.
    """
    if Path(file).suffix != ".safetensors":
        raise ValueError(
            f"{file} is a pickle, which can run code when it is loaded. Convert it once where you trust it: "
            "`from safetensors.torch import save_file; state = torch.load('longclip-B.pt', weights_only=True); "
            "save_file({k: v.contiguous() for k, v in state.items()}, 'longclip-B.safetensors')`."
        )
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read ({error}).") from None
    model = model_from_openai(state)
    width = model.config.vision_config.hidden_size
    default = "openai/clip-vit-large-patch14" if width == 1024 else "openai/clip-vit-base-patch16"
    return CLIPAdapter(model, CLIPProcessor.from_pretrained(processor or default), Path(file).stem)


def model_from_openai(state: dict[str, Tensor]) -> CLIPModel:
    """A transformers CLIP with the weights of an OpenAI-style state dict, with or without Long-CLIP's second table.

    Raises:
        ValueError: names or shapes do not fit.
    """
    try:
        vision_width, _, patch, _ = state["visual.conv1.weight"].shape
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        text_width = state["ln_final.weight"].shape[0]
        positions = state["positional_embedding"]
        if "positional_embedding_res" in state:
            positions = torch.cat([positions[:KEPT], state["positional_embedding_res"][KEPT:]])
        config = CLIPConfig(
            vision_config={
                "hidden_size": vision_width,
                "intermediate_size": 4 * vision_width,
                "num_hidden_layers": _layers(state, "visual.transformer"),
                "num_attention_heads": max(1, vision_width // HEAD),
                "image_size": grid * patch,
                "patch_size": patch,
            },
            text_config={
                "hidden_size": text_width,
                "intermediate_size": 4 * text_width,
                "num_hidden_layers": _layers(state, "transformer"),
                "num_attention_heads": max(1, text_width // HEAD),
                "max_position_embeddings": positions.shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "bos_token_id": 49406,
                "eos_token_id": 49407,
            },
            projection_dim=state["text_projection"].shape[1],
        )
        layout = {**state, "positional_embedding": positions}
        names = clip_state({name: layout[name] for name in layout.keys() - _NO_WEIGHTS}, config.to_dict())
        model = CLIPModel(config)
        missing, unexpected = model.load_state_dict({k: v.float() for k, v in names.items()}, strict=False)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"not a state dict in OpenAI's CLIP layout ({type(error).__name__}: {error}).") from None
    if unexpected or [name for name in missing if "position_ids" not in name]:
        raise ValueError(f"the state dict leaves {missing} unset and names {unexpected} unknown.")
    return model.eval()


def _layers(state: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(
        int(name.split(".resblocks.")[1].split(".")[0]) for name in state if name.startswith(f"{prefix}.resblocks.")
    )
