"""Memory of a device in a training step: weights and their state, what the backward pass keeps, similarities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .communication import BFLOAT16, FLOAT32

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPVisionConfig

    from modeling_fgclip import FGCLIPConfig

LengthGroups = Iterable[tuple[int, int]]


def parameter_count(config: FGCLIPConfig) -> int:
    """Parameters of [`FGCLIPModel`], both tables of long positions and the three temperatures included."""
    vision, text = config.vision_config, config.text_config
    patches = (vision.image_size // vision.patch_size) ** 2
    embeddings = vision.hidden_size * (vision.num_channels * vision.patch_size**2 + 1 + patches + 1)
    positions = text.max_position_embeddings + 2 * text.max_long_position_embeddings
    embeddings += text.hidden_size * (text.vocab_size + positions)
    norms = 2 * 2 * vision.hidden_size + 2 * text.hidden_size
    projections = config.projection_dim * (vision.hidden_size + 2 * text.hidden_size)
    return embeddings + norms + projections + _blocks(vision) + _blocks(text) + 3


def _blocks(encoder: CLIPTextConfig | CLIPVisionConfig) -> int:
    width, inner = encoder.hidden_size, encoder.intermediate_size
    attention = 4 * width * (width + 1)
    return encoder.num_hidden_layers * (attention + 2 * width * inner + inner + width + 4 * width)


def state_bytes(parameters: int, strategy: str, ranks: int) -> dict[str, float]:
    """Weights, gradients and AdamW's two moments on a rank, by what they are.

    ddp keeps all of it in float32, and autocast a bfloat16 copy of the weights; its buckets are another copy of the
    gradients. zero2 keeps bfloat16 weights and gradients, and shares out the float32 master weights and moments;
    fsdp2 shares out everything (a block's gathered weights are left out).
    """
    share = 1 if strategy == "ddp" else 1 / ranks
    if strategy == "zero2":
        return {
            "weights": parameters * BFLOAT16,
            "gradients": parameters * BFLOAT16,
            "master weights": parameters * FLOAT32 * share,
            "optimizer": 2 * parameters * FLOAT32 * share,
        }
    states = {
        "weights": parameters * (FLOAT32 * share + (BFLOAT16 if strategy == "ddp" else 0)),
        "gradients": parameters * FLOAT32 * share,
        "optimizer": 2 * parameters * FLOAT32 * share,
    }
    if strategy == "ddp" and ranks > 1:
        states["gradient buckets"] = parameters * FLOAT32
    return states


def token_bytes(encoder: CLIPTextConfig | CLIPVisionConfig, half: bool) -> int:
    """Bytes that a block keeps of a token for its backward pass.

    The inputs of the two norms and what leaves them; queries, keys, values and what attention makes of them; before,
    inside and after the activation function. Under bfloat16 autocast the norms and the sums between blocks stay in
    float32, and each linear layer keeps a bfloat16 copy of its own: three of what leaves the first norm.
    """
    width, inner = encoder.hidden_size, encoder.intermediate_size
    if half:
        return 2 * width * FLOAT32 + BFLOAT16 * (8 * width + 3 * inner)
    return 2 * width * FLOAT32 + FLOAT32 * (6 * width + 3 * inner)


def activation_bytes(
    config: FGCLIPConfig,
    images: int,
    image_patches: int,
    length_groups: LengthGroups,
    regions: bool,
    half: bool = True,
    checkpointing: bool = False,
) -> float:
    """Bytes kept between forward and backward, to within some per cent.

    Args:
        images: of a batch on this device.
        image_patches: of each image.
        length_groups: (texts, tokens of each) pairs.
        regions: whether dense features are formed.
        half: bfloat16 autocast.
        checkpointing: blocks keep their input alone and are computed again, one at a time.
    """
    vision, text = config.vision_config, config.text_config
    image_tokens = images * (image_patches + 1)
    text_tokens = sum(texts * length for texts, length in length_groups)
    total = 0.0
    for encoder, tokens in ((vision, image_tokens), (text, text_tokens)):
        a_block = tokens * token_bytes(encoder, half)
        blocks = encoder.num_hidden_layers - 1
        total += (blocks * tokens * encoder.hidden_size * FLOAT32 + a_block) if checkpointing else blocks * a_block
        # Of the last block: the norm, keys and values of all tokens.
        total += tokens * encoder.hidden_size * (FLOAT32 + (4 * BFLOAT16 if half else 3 * FLOAT32))
    if regions:
        # The last block once more without queries and keys.
        width, inner, linear = vision.hidden_size, vision.intermediate_size, BFLOAT16 if half else FLOAT32
        dense = 2 * width * FLOAT32 + linear * (4 * width + 3 * inner + config.projection_dim)
        total += images * image_patches * dense
    return total
