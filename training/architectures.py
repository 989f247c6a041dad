"""The two sizes that were published, as configurations (paper, section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeling_fgclip import FGCLIPConfig

_SETTINGS = {
    "b16": {
        "projection_dim": 512,
        "text_config": {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "projection_dim": 512,
        },
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 16,
            "projection_dim": 512,
        },
    },
    "l14-336": {
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 768,
        },
    },
}
# CLIP's own vocabulary; its last two tokens start and end a text.
_TOKENS = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}

ARCHITECTURES = tuple(_SETTINGS)


def architecture(name: str) -> FGCLIPConfig:
    """The configuration of ViT-B/16 at 224 ("b16") or ViT-L/14 at 336 ("l14-336")."""
    if name not in _SETTINGS:
        raise ValueError(f"Received the architecture {name!r}; there are {', '.join(ARCHITECTURES)}.")
    from modeling_fgclip import FGCLIPConfig

    settings = _SETTINGS[name]
    return FGCLIPConfig(**{**settings, "text_config": {**settings["text_config"], **_TOKENS}})
