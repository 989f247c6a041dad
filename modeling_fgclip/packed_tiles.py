"""Several short texts in one tile of attention.

A GPU's attention kernel for texts of any length works on tiles of 128 tokens of one text: of a phrase of 12 tokens nine tenths
of a tile are empty, and a third of a step of stage 2 went there. Here a tile is a row of as many texts of one length as it
holds, kept apart by a mask: an eighth of the time (benchmarks/README.md). A mask does not stop what is not a number: a text whose
states are NaN makes those of its tile NaN.
"""

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# Of 32, 64, 128 and 256 the fastest on an H100.
TILE = 64
# Texts of which at least three share a tile.
SHORT = TILE // 3
# Those whose masks are broadcast over heads.
BACKENDS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def lay_out(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the tokens of packed texts lie while attention works on them: short texts in tiles, then the others as they are.

    Args:
        starts: (N + 1,) first token of each text, shortest text first, and the number T of tokens.

    Returns:
        (S,) token of each slot, of tiles' empty slots the first; (T,) slot of each token; (R, TILE) text of each tile's slots,
        -1 where empty.
    """
    lengths = np.diff(starts)
    lengths = lengths[lengths <= SHORT]
    texts, tokens = len(lengths), starts[len(lengths)]
    values, first, group, count = np.unique(lengths, return_index=True, return_inverse=True, return_counts=True)
    per_tile = TILE // values
    tiles = -(-count // per_tile)
    tile = (tiles.cumsum() - tiles)[group] + (np.arange(texts) - first[group]) // per_tile[group]
    begin = tile * TILE + (np.arange(texts) - first[group]) % per_tile[group] * lengths
    text = np.arange(texts).repeat(lengths)
    slot = begin[text] + np.arange(tokens) - starts[:-1][text]
    in_tiles = int(tiles.sum()) * TILE
    token_of_slot, text_of_slot = np.zeros(in_tiles, np.int64), np.full(in_tiles, -1, np.int32)
    token_of_slot[slot], text_of_slot[slot] = np.arange(tokens), text
    others = np.arange(tokens, starts[-1])
    slots = np.concatenate([token_of_slot, others])
    return slots, np.concatenate([slot, in_tiles + others - tokens]), text_of_slot.reshape(-1, TILE)


def tile_mask(tile_texts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(R, 1, TILE, TILE) to add to scores: 0 where a token of a text sees itself or one before it, else minus infinity."""
    # Empty slots see each other, so that no row is NaN.
    seen = (tile_texts[:, :, None] == tile_texts[:, None, :]).tril()
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf).unsqueeze(1)


def tile_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float, dropout: float
) -> torch.Tensor:
    """(R * TILE, heads, head_dim) attention in tiles, of queries, keys and values of the same shape."""
    query, key, value = (states.unflatten(0, (-1, TILE)).transpose(1, 2) for states in (query, key, value))
    with sdpa_kernel(BACKENDS):
        output = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
    return output.transpose(1, 2).flatten(0, 1)


__all__ = ["SHORT", "TILE", "lay_out", "tile_attention", "tile_mask"]
