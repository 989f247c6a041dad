"""Texts of any length in one pass without padding, and what they begin with alike computed once.

CLIP's text encoder is causal and pooled at the end-of-text token, so a text is complete at that token and texts can
lie one after the other in a single row. Everything but attention works on single tokens; attention is kept inside
each text.

For the same reason texts that begin alike have the same hidden states there: a phrase and its hard negatives share them
up to the first word that was replaced. With `share_prefixes` the texts become a tree of tokens, whose nodes everything
but attention works on.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, TypedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .autocast import computed_in
from .packed_tiles import SHORT, lay_out, tile_attention, tile_mask

try:
    from torch.nn.attention.varlen import varlen_attn

    # A checkpoint's code may run on a torch before 2.11, where causality was another argument.
    HAS_VARLEN_ATTENTION = "window_size" in inspect.signature(varlen_attn).parameters
except ImportError:
    HAS_VARLEN_ATTENTION = False

HALF_PRECISION = (torch.float16, torch.bfloat16)
# A CPU compiles its half-precision products for every new number of rows; of multiples of so many there are few.
ROWS = 128


class PackedTexts(TypedDict):
    """N texts of T tokens together, shortest first. A plain dictionary, so that data loaders can move it.

    The encoder works on U nodes: the tokens, or with shared prefixes the distinct tokens after distinct beginnings.
    """

    input_ids: torch.Tensor  # (U,)
    position_ids: torch.Tensor  # (U,) from 0 in each text
    long_token: torch.Tensor  # (U,) bool: which belong to texts of the next row
    long_text: torch.Tensor  # (N,) bool: which texts use the long positions and the long projection
    cu_seqlens: torch.Tensor  # (N + 1,) int32: where each text starts among the tokens, and T
    length_groups: list[tuple[int, int]]  # (texts, tokens of each), on the host so that nothing has to be synchronised
    restore: torch.Tensor  # (N,) place of each given text among the packed ones
    nodes: torch.Tensor | None  # (T,) the node of each token; None where tokens are nodes
    tokens: torch.Tensor | None  # (U,) one token of each node
    slots: torch.Tensor  # (S,) node in each slot of attention, where short texts lie in tiles (packed_tiles.py)
    places: torch.Tensor  # (U,) slot of each node
    tile_texts: torch.Tensor  # (R, TILE) int32 text of each slot of the tiles, which are the first slots


def pack_texts(
    texts: Sequence[Sequence[int]], long_text: Sequence[bool], share_prefixes: bool = False, rows: int = 1
) -> PackedTexts:
    """Packs token ids, each from its start token to its first end-of-text token and no further.

    Args:
        texts: N lists of token ids without padding.
        long_text: N flags, true where the text is to use the long positions.
        share_prefixes: compute once what texts begin with alike. Pays where many do, as hard negatives.
        rows: with shared prefixes, fill up the nodes to a multiple of this, with the last one again, which nothing reads.
    """
    if len(texts) != len(long_text):
        raise ValueError(
            f"pack_texts needs one long_text flag a text, got {len(texts)} texts, {len(long_text)} flags."
        )
    if not texts or not all(len(text) for text in texts):
        raise ValueError(f"pack_texts needs at least one text and no empty one, got {len(texts)} texts.")
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    ordered, is_long = [list(texts[number]) for number in order], np.array(long_text, dtype=bool)[order]
    lengths = np.array([len(text) for text in ordered])
    starts = np.append(0, lengths.cumsum())
    input_ids = np.fromiter(chain.from_iterable(ordered), np.int64, starts[-1])
    position_ids = np.arange(starts[-1]) - starts[:-1].repeat(lengths)
    long_token = is_long.repeat(lengths)
    nodes = tokens = None
    slots, places, tile_texts = lay_out(starts)
    if share_prefixes:
        nodes, tokens = _prefix_tree(ordered, input_ids, starts, is_long)
        tokens = np.pad(tokens, (0, -len(tokens) % rows), mode="edge")
        input_ids, position_ids, long_token = input_ids[tokens], position_ids[tokens], long_token[tokens]
        slots, places = nodes[slots], places[tokens]
        nodes, tokens = torch.from_numpy(nodes), torch.from_numpy(tokens)
    return PackedTexts(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        long_token=torch.from_numpy(long_token),
        long_text=torch.from_numpy(is_long),
        cu_seqlens=torch.from_numpy(starts.astype(np.int32)),
        length_groups=[(len(list(group)), length) for length, group in groupby(lengths.tolist())],
        restore=torch.from_numpy(np.argsort(order)),
        nodes=nodes,
        tokens=tokens,
        slots=torch.from_numpy(slots),
        places=torch.from_numpy(places),
        tile_texts=torch.from_numpy(tile_texts),
    )


def _prefix_tree(
    texts: list[list[int]], input_ids: np.ndarray, starts: np.ndarray, is_long: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) node of each token, (U,) one token of each node. Nodes are ordered by position, then as a dictionary is.

    In a dictionary's order a text shares most with the one before, so that only neighbors are compared. Short and long
    texts share nothing, since their positions differ.
    """
    order = np.array(sorted(range(len(texts)), key=lambda number: (is_long[number], texts[number])))
    lengths, is_long = np.diff(starts)[order], is_long[order]
    begins = lengths.cumsum() - lengths
    text = np.arange(len(texts)).repeat(lengths)  # (T,), as all that follow: tokens in that order
    position = np.arange(len(input_ids)) - begins[text]
    places = starts[order][text] + position
    input_ids = input_ids[places]
    has_above = (text > 0) & (is_long[text] == is_long[text - 1]) & (position < lengths[text - 1])
    is_same = has_above & (input_ids[np.where(has_above, begins[text - 1] + position, 0)] == input_ids)
    shared = np.minimum.reduceat(np.where(is_same, len(input_ids), position), begins)  # tokens, of each text
    by_position = np.argsort(position, kind="stable")
    is_new = (position >= shared[text])[by_position]
    nodes = np.empty_like(places)
    nodes[places[by_position]] = is_new.cumsum() - 1
    return nodes, places[by_position[is_new]]


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: PackedTexts,
    scaling: float,
    dropout: float,
    ends_only: bool = False,
    causal: bool = True,
) -> torch.Tensor:
    """Attention inside each packed text.

    Flash attention where the model was loaded with it; PyTorch's variable-length attention for half precision on
    CUDA where its kernel takes the heads' width (a multiple of 8 up to 256); elsewhere PyTorch's attention once for each length.

    Args:
        query: (1, heads, T, head_dim) of every token, or with `ends_only` (1, heads, N, head_dim) of the end of each
            text alone.
        key, value: (1, heads, T, head_dim).
        causal: whether a token sees only what stands before it (CLIP) or all of its text (SigLIP).

    Returns:
        (1, T or N, heads, head_dim).
    """
    causal = causal and not ends_only
    offsets, longest = packed["cu_seqlens"], packed["length_groups"][-1][1]
    query_offsets = torch.arange(len(offsets), dtype=torch.int32, device=offsets.device) if ends_only else offsets
    longest_query = 1 if ends_only else longest
    implementation = module.config._attn_implementation
    if "flash" in implementation:
        output, _ = ALL_ATTENTION_FUNCTIONS[implementation](
            module,
            query,
            key,
            value,
            None,
            scaling=scaling,
            dropout=dropout,
            is_causal=causal,
            cu_seq_lens_q=query_offsets,
            cu_seq_lens_k=offsets,
            max_length_q=longest_query,
            max_length_k=longest,
        )
        return output
    query, key, value = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))  # (T, heads, head_dim)
    if _has_kernel(query) and not dropout:
        window = (-1, 0) if causal else (-1, -1)
        output = varlen_attn(
            query, key, value, query_offsets, offsets, longest_query, longest, scale=scaling, window_size=window
        )
        return output.unsqueeze(0)
    return _attention_by_length(
        query, key, value, packed["length_groups"], scaling, dropout, ends_only, causal
    ).unsqueeze(0)


@dataclass(frozen=True)
class Tiles:
    """What attention in tiles needs beside the slots, made once for all blocks.

    Args:
        mask: of the short texts' tiles.
        others: the longer texts, packed.
    """

    mask: torch.Tensor
    others: dict[str, Any] | None


def make_tiles(packed: PackedTexts, dtype: torch.dtype) -> Tiles:
    """Tiles of these texts, for states of this type."""
    others = [(texts, length) for texts, length in packed["length_groups"] if length > SHORT]
    if not others:
        return Tiles(tile_mask(packed["tile_texts"], dtype), None)
    first = len(packed["cu_seqlens"]) - 1 - sum(texts for texts, _ in others)
    offsets = packed["cu_seqlens"][first:]
    rest = {"cu_seqlens": offsets - offsets[0], "length_groups": others}
    return Tiles(tile_mask(packed["tile_texts"], dtype), rest)


def tiles_for(packed: PackedTexts, states: torch.Tensor, implementation: str) -> Tiles | None:
    """Tiles where attention is faster in them: on a GPU, with short texts, unless a flash kernel was asked for.

    Args:
        states: that the encoder begins with. implementation: of attention.
    """
    if not states.is_cuda or "flash" in implementation or not len(packed["tile_texts"]):
        return None
    return make_tiles(packed, computed_in(states))


def tiled_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tiles: Tiles,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Causal attention inside each packed text, short ones in tiles.

    Args:
        query, key, value: (1, S, heads, head_dim) of every slot.

    Returns:
        (1, S, heads, head_dim).
    """
    tiled = tiles.mask.shape[0] * tiles.mask.shape[-1]
    states = [states[0] for states in (query, key, value)]
    short = tile_attention(*(part[:tiled] for part in states), tiles.mask, scaling, dropout).unsqueeze(0)
    if tiles.others is None:
        return short
    others = [part[tiled:].transpose(0, 1).unsqueeze(0) for part in states]
    return torch.cat([short, packed_attention(module, *others, tiles.others, scaling, dropout)], dim=1)


def _has_kernel(query: torch.Tensor) -> bool:
    """Whether variable-length attention takes (T, heads, head_dim)."""
    is_half = query.is_cuda and query.dtype in HALF_PRECISION
    return HAS_VARLEN_ATTENTION and is_half and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256


def _attention_by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    length_groups: list[tuple[int, int]],
    scaling: float,
    dropout: float,
    ends_only: bool,
    causal: bool,
) -> torch.Tensor:
    """(T or N, heads, head_dim) attention of texts of one length at a time, of which packing made contiguous slices."""
    dtype, device = query.dtype, query.device.type
    autocast = torch.is_autocast_enabled(device)
    if device == "cpu" and dtype in HALF_PRECISION:
        # A CPU's half-precision products are compiled for every new shape, and nearly every length group is one.
        query, key, value, autocast = query.float(), key.float(), value.float(), False
    sizes = [texts * length for texts, length in length_groups]
    query_sizes = [texts for texts, _ in length_groups] if ends_only else sizes
    outputs = []
    groups = zip(length_groups, query.split(query_sizes), key.split(sizes), value.split(sizes), strict=True)
    for (texts, _), *group in groups:
        # (texts * length, heads, head_dim) -> (texts, heads, length, head_dim)
        q, k, v = (tensor.unflatten(0, (texts, -1)).transpose(1, 2) for tensor in group)
        with torch.autocast(device, enabled=autocast):
            output = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=scaling)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).to(dtype)
