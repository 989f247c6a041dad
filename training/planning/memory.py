"""Memory of a device in a training step: weights and their state, and what the backward pass needs.

Tests compare it with what a step holds on a simulated device (`tests/training/planning/test_simulated_step.py`) and on a GPU
(`tests/gpu/test_step.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig

from modeling_fgclip import FGCLIP2Config, FGCLIPConfig
from modeling_fgclip.family import family_of

from .communication import BFLOAT16, CHECKPOINTING, FLOAT32

LengthGroups = Iterable[tuple[int, int]]


def model_of(config: PreTrainedConfig) -> nn.Module:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return family_of(config).model(config)


def parameter_count(config: PreTrainedConfig, but: tuple[str, ...] = ()) -> int:
    """Parameters of a model, without those whose names begin with one of `but`."""
    named = model_of(config).named_parameters()
    return sum(parameter.numel() for name, parameter in named if not name.startswith(but))


def autocast_copies(config: PreTrainedConfig, strategy: str, checkpointing: str) -> float:
    """Bytes of autocast's bfloat16 copies of weights, which linear layers keep for the backward pass.

    Where blocks are computed again, so are their copies, a block's at a time; embedding tables have none.
    """
    if strategy != "ddp" or checkpointing != "none":
        return 0
    products = (nn.Linear, nn.Conv2d)
    return BFLOAT16 * sum(part.weight.numel() for part in model_of(config).modules() if isinstance(part, products))


def state_bytes(parameters: int, strategy: str, ranks: int) -> dict[str, float]:
    """Weights, gradients and AdamW's two moments on a rank, by what they are.

    ddp keeps all of it in float32; its buckets are another copy of the gradients. zero2 keeps bfloat16 weights and
    gradients, and shares out the float32 master weights and moments; fsdp2 shares out everything (a block's gathered
    weights are left out).
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
        "weights": parameters * FLOAT32 * share,
        "gradients": parameters * FLOAT32 * share,
        "optimizer": 2 * parameters * FLOAT32 * share,
    }
    if strategy == "ddp" and ranks > 1:
        states["gradient buckets"] = parameters * FLOAT32
    return states


@dataclass(frozen=True)
class Encoder:
    """What an encoder keeps for its backward pass.

    Args:
        blocks: that work on all tokens.
        tokens: of a batch, all rows together.
        width, inner: of the tokens, and inside the MLP, of which it keeps two: before and after its activation function
            (three where CLIP's MLP is called as it is: adapters on it, hooks, quantized weights).
        ends: bytes beside the blocks: of a last block that is computed in part, of heads. They are never checkpointed.
    """

    blocks: int
    tokens: int
    width: int
    inner: int
    ends: float

    def block_bytes(self, half: bool, checkpointing: str = "none") -> float:
        """Bytes kept of a block.

        The inputs of the two norms and what leaves them; queries, keys, values and what attention makes of them; before,
        and after the activation function. Under bfloat16 autocast the norms and the sums between blocks stay in
        float32, and each linear layer keeps a bfloat16 copy of its own: three of what leaves the first norm. Selective
        checkpointing keeps the block's input, the four and what the output projection makes of them; whole blocks keep
        their input.
        """
        linear = BFLOAT16 if half else FLOAT32
        if checkpointing == "blocks":
            numbers = FLOAT32 * self.width
        elif checkpointing == "selective":
            numbers = FLOAT32 * self.width + linear * 5 * self.width
        else:
            copies = 8 if half else 6
            numbers = 2 * self.width * FLOAT32 + linear * (copies * self.width + 2 * self.inner)
        return self.tokens * numbers

    def gradient_bytes(self, half: bool) -> float:
        """Bytes of gradients at a time inside a block: of what leaves it, and around the activation function."""
        linear = BFLOAT16 if half else FLOAT32
        return self.tokens * (FLOAT32 * self.width + linear * (self.width + self.inner))

    def kept(self, half: bool, checkpointing: str) -> float:
        return self.blocks * self.block_bytes(half, checkpointing) + self.ends


def peak_bytes(encoders: Sequence[Encoder], half: bool, checkpointing: str) -> float:
    """The most that a backward pass holds at a time, gradients of weights left out.

    Args:
        encoders: in the order of the forward pass.
        half: bfloat16 autocast.
        checkpointing: of `CHECKPOINTING`.
    """
    if checkpointing not in CHECKPOINTING:
        raise ValueError(f"Received the checkpointing {checkpointing!r}; there are {', '.join(CHECKPOINTING)}.")
    held = peak = sum(encoder.kept(half, checkpointing) for encoder in encoders)
    if checkpointing == "none":
        return peak
    for encoder in reversed(encoders):
        # A block at a time is computed again, after the ends behind it are done with.
        held -= encoder.ends
        again = encoder.block_bytes(half) - encoder.block_bytes(half, checkpointing)
        peak = max(peak, held + again + encoder.gradient_bytes(half))
        held -= encoder.blocks * encoder.block_bytes(half, checkpointing)
    return peak


def fgclip_encoders(
    config: FGCLIPConfig,
    images: int,
    image_patches: int,
    length_groups: LengthGroups,
    regions: bool,
    half: bool = True,
) -> list[Encoder]:
    """FG-CLIP's two, whose last blocks are computed in part.

    Args:
        images: of a batch on this device.
        image_patches: of each image.
        length_groups: (texts, tokens of each) pairs.
        regions: whether dense features are formed.
        half: bfloat16 autocast.
    """
    linear = BFLOAT16 if half else FLOAT32
    encoders = []
    texts = sum(count * length for count, length in length_groups)
    for part, tokens in ((config.vision_config, images * (image_patches + 1)), (config.text_config, texts)):
        width, inner = part.hidden_size, part.intermediate_size
        # Of the last block: the norm, keys and values of all tokens.
        ends = tokens * width * (FLOAT32 + (4 * linear if half else 3 * linear))
        if part is config.vision_config:
            # Before the first block: pixels, the norm.
            ends += images * image_patches * linear * part.num_channels * part.patch_size**2
            ends += tokens * width * FLOAT32
            if regions:
                # The last block once more without queries and keys.
                dense = 2 * width * FLOAT32 + linear * (4 * width + 2 * inner + config.projection_dim)
                ends += images * image_patches * dense
        encoders.append(Encoder(part.num_hidden_layers - 1, tokens, width, inner, ends))
    return encoders


def fgclip2_encoders(
    config: FGCLIP2Config,
    images: int,
    image_patches: int,
    length_groups: LengthGroups,
    regions: bool,
    half: bool = True,
) -> list[Encoder]:
    """FG-CLIP 2's: an image's blocks are all whole and pooled by attention, and so are dense features.

    Args:
        image_patches: of each image, padding included.
        length_groups: (rows, tokens of each) pairs, at full length.
        images, regions, half: as of `fgclip_encoders`.
    """
    linear = BFLOAT16 if half else FLOAT32
    patches, rows = images * image_patches, sum(count * length for count, length in length_groups)
    vision, text = config.vision_config, config.text_config
    width, inner = vision.hidden_size, vision.intermediate_size
    # The last norm's input; the pooling head's keys and values.
    ends = patches * width * (FLOAT32 + (3 if half else 2) * linear)
    if regions:
        # A head with queries, too, in which attention is normed and goes through an MLP.
        norm = 2 * FLOAT32 * width
        ends += patches * (norm + linear * ((8 if half else 5) * width + 2 * inner))
    text_ends = rows * text.hidden_size * (FLOAT32 + (4 if half else 3) * linear)
    return [
        Encoder(vision.num_hidden_layers, patches, width, inner, ends),
        Encoder(text.num_hidden_layers - 1, rows, text.hidden_size, text.intermediate_size, text_ends),
    ]
