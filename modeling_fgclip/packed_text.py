"""Texts of any length in one pass without padding.

CLIP's text encoder is causal and pooled at the end-of-text token, so a text is complete at that token and texts can
lie one after the other in a single row. Everything but attention works on single tokens; attention is kept inside
each text.
"""

import inspect
from collections.abc import Sequence
from itertools import groupby
from typing import TypedDict

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

try:
    from torch.nn.attention.varlen import varlen_attn

    # Before torch 2.11 it knew causality by another argument.
    HAS_VARLEN_ATTENTION = "window_size" in inspect.signature(varlen_attn).parameters
except ImportError:
    HAS_VARLEN_ATTENTION = False

HALF_PRECISION = (torch.float16, torch.bfloat16)


class PackedTexts(TypedDict):
    """N texts of T tokens together, shortest first. A plain dictionary, so that data loaders can move it."""

    input_ids: torch.Tensor  # (T,)
    position_ids: torch.Tensor  # (T,) from 0 in each text
    long_text: torch.Tensor  # (N,) bool: which texts use the long positions and the long projection
    cu_seqlens: torch.Tensor  # (N + 1,) int32: where each text starts, and T
    length_groups: list[tuple[int, int]]  # (texts, tokens of each), on the host so that nothing has to be synchronised
    restore: torch.Tensor  # (N,) place of each given text among the packed ones


def pack_texts(texts: Sequence[Sequence[int]], long_text: Sequence[bool]) -> PackedTexts:
    """Packs token ids, each from its start token to its first end-of-text token and no further.

    Args:
        texts: N lists of token ids without padding.
        long_text: N flags, true where the text is to use the long positions.
    """
    if len(texts) != len(long_text):
        raise ValueError(
            f"pack_texts needs one long_text flag a text, got {len(texts)} texts, {len(long_text)} flags."
        )
    if not texts or not all(len(text) for text in texts):
        raise ValueError(f"pack_texts needs at least one text and no empty one, got {len(texts)} texts.")
    lengths = torch.tensor([len(text) for text in texts])
    order = torch.argsort(lengths, stable=True)
    lengths = lengths[order]
    starts = F.pad(lengths.cumsum(0), (1, 0))
    return PackedTexts(
        input_ids=torch.tensor([token for index in order.tolist() for token in texts[index]]),
        position_ids=torch.arange(starts[-1]) - starts[:-1].repeat_interleave(lengths),
        long_text=torch.tensor(list(long_text), dtype=torch.bool)[order],
        cu_seqlens=starts.to(torch.int32),
        length_groups=[(len(list(group)), length) for length, group in groupby(lengths.tolist())],
        restore=torch.argsort(order),
    )


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: PackedTexts,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Causal attention inside each packed text.

    Flash attention where the model was loaded with it; PyTorch's variable-length attention for half precision on
    CUDA; elsewhere PyTorch's attention once for each length.

    Args:
        query: (1, heads, T, head_dim) of every token, or (1, heads, N, head_dim) of the end of each text alone.
        key, value: (1, heads, T, head_dim).

    Returns:
        (1, T or N, heads, head_dim).
    """
    offsets, longest = packed["cu_seqlens"], packed["length_groups"][-1][1]
    ends_only = query.shape[2] != key.shape[2] or longest == 1
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
            is_causal=not ends_only,
            cu_seq_lens_q=query_offsets,
            cu_seq_lens_k=offsets,
            max_length_q=longest_query,
            max_length_k=longest,
        )
        return output
    query, key, value = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))  # (T, heads, head_dim)
    if HAS_VARLEN_ATTENTION and query.is_cuda and query.dtype in HALF_PRECISION and not dropout:
        window = (-1, -1) if ends_only else (-1, 0)
        output = varlen_attn(
            query, key, value, query_offsets, offsets, longest_query, longest, scale=scaling, window_size=window
        )
        return output.unsqueeze(0)
    return _attention_by_length(query, key, value, packed["length_groups"], scaling, dropout).unsqueeze(0)


def _attention_by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    length_groups: list[tuple[int, int]],
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """(T or N, heads, head_dim) attention of texts of one length at a time, of which packing made contiguous slices."""
    dtype, device = query.dtype, query.device.type
    autocast = torch.is_autocast_enabled(device)
    if device == "cpu" and dtype in HALF_PRECISION:
        # A CPU's half-precision products are compiled for every new shape, and nearly every length group is one.
        query, key, value, autocast = query.float(), key.float(), value.float(), False
    ends_only = query.shape[0] != key.shape[0]
    sizes = [texts * length for texts, length in length_groups]
    query_sizes = [texts for texts, _ in length_groups] if ends_only else sizes
    outputs = []
    groups = zip(length_groups, query.split(query_sizes), key.split(sizes), value.split(sizes), strict=True)
    for (texts, _), *group in groups:
        # (texts * length, heads, head_dim) -> (texts, heads, length, head_dim)
        q, k, v = (tensor.unflatten(0, (texts, -1)).transpose(1, 2) for tensor in group)
        with torch.autocast(device, enabled=autocast):
            output = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=not ends_only, scale=scaling)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).to(dtype)
