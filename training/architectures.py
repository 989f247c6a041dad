"""The sizes that were published, as configurations (paper, section 4.1; FG-CLIP 2 has SigLIP 2's)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeling_fgclip import FGCLIP2Config, FGCLIPConfig

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

# Width, width inside the MLP, blocks and heads, the same for images and texts.
_FGCLIP2_SIZES = {
    "fgclip2-base": (768, 3072, 12, 12),
    "fgclip2-large": (1024, 4096, 24, 16),
    "fgclip2-so400m": (1152, 4304, 27, 16),
}

ARCHITECTURES = tuple(_SETTINGS)
FGCLIP2_ARCHITECTURES = tuple(_FGCLIP2_SIZES)


def architecture(name: str) -> FGCLIPConfig | FGCLIP2Config:
    """The configuration of FG-CLIP ViT-B/16 at 224 ("b16") or ViT-L/14 at 336 ("l14-336"), or of an FG-CLIP 2."""
    from modeling_fgclip import FGCLIP2Config, FGCLIPConfig

    if name in _SETTINGS:
        settings = _SETTINGS[name]
        return FGCLIPConfig(**{**settings, "text_config": {**settings["text_config"], **_TOKENS}})
    if name in _FGCLIP2_SIZES:
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        encoder = dict(zip(names, _FGCLIP2_SIZES[name], strict=True))
        text = {**encoder, "projection_size": encoder["hidden_size"], "vocab_size": 256_000}
        return FGCLIP2Config(text_config=text, vision_config={**encoder, "patch_size": 16, "num_patches": 256})
    raise ValueError(
        f"Received the architecture {name!r}; there are {', '.join((*ARCHITECTURES, *FGCLIP2_ARCHITECTURES))}."
    )
