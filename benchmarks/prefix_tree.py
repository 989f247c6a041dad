"""Texts as a tree of tokens: what two texts begin with alike is encoded once. An experiment, not part of the model.

The text encoder is causal, so a token's hidden state is a function of the tokens before it. Texts that begin alike share
these states; a node of the tree is a token after all its ancestors. Everything but attention works on nodes. Attention
is computed in one of two ways:

- "gather": keys, values and queries are copied from the nodes to the tokens of each text, attention runs as it does for
  packed texts, and of equal outputs one is taken;
- "mask": texts that share more than the start token are a family, whose nodes attend to their ancestors by a mask.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from modeling_fgclip import PackedTexts
from modeling_fgclip.packed_text import packed_attention
from modeling_fgclip.text_encoder import FGCLIPTextModel

ATTENTION = ("gather", "mask")
_VOCABULARY = 1 << 20  # above any token id, to make one number of a node and a token


@dataclass
class PrefixTree:
    """U nodes of T tokens of N packed texts."""

    input_ids: torch.Tensor  # (U,)
    positions: torch.Tensor  # (U,) depth, the start token at 0
    long_text: torch.Tensor  # (U,) bool; long and short texts share nothing, their positions differ
    node: torch.Tensor  # (T,) node of each packed token
    token: torch.Tensor  # (U,) one packed token of each node
    ends: torch.Tensor  # (N,) node that ends each packed text
    families: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None  # of `_families`, for attention by a mask


def build_tree(packed: PackedTexts, families: bool = False) -> PrefixTree:
    """The tree of packed texts; `families` are needed for attention by a mask and grow with the square of the largest."""
    tokens, offsets = packed["input_ids"].numpy(), packed["cu_seqlens"].numpy().astype(np.int64)
    is_long, lengths = packed["long_text"].numpy(), np.diff(offsets)
    node = np.full(len(tokens), -1)
    parent: list[np.ndarray] = []
    token: list[np.ndarray] = []
    depth: list[np.ndarray] = []
    above = np.where(is_long, 1, 0)  # stands for the root of short or long texts, by text
    count = 0
    for position in range(lengths.max()):
        texts = np.flatnonzero(lengths > position)
        places = offsets[texts] + position
        keys = above[texts].astype(np.int64) * _VOCABULARY + tokens[places]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        node[places] = count + inverse
        parent.append(above[texts[first]] if position else np.full(len(first), -1))
        token.append(places[first])
        depth.append(np.full(len(first), position))
        above = above.copy()
        above[texts] = count + inverse
        count += len(first)
    token_of, parents, depths = np.concatenate(token), np.concatenate(parent), np.concatenate(depth)
    text_of = np.repeat(np.arange(len(lengths)), lengths)
    return PrefixTree(
        input_ids=packed["input_ids"][token_of],
        positions=torch.from_numpy(depths),
        long_text=packed["long_text"][text_of[token_of]],
        node=torch.from_numpy(node),
        token=torch.from_numpy(token_of),
        ends=torch.from_numpy(node[offsets[1:] - 1]),
        families=_families(parents, depths) if families else None,
    )


def _families(parents: np.ndarray, depths: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Trees below the start tokens; every one gets the start token it hangs on as its first node.

    Returns:
        (families, size) nodes, padded with U; (families, 1, size, size) bool, true where a node sees an ancestor or itself;
        (U,) place of each node in the flattened nodes.
    """
    count = len(parents)
    root = np.arange(count)
    for index in np.flatnonzero(depths > 1):  # parents come before their children
        root[index] = root[parents[index]]
    members: dict[int, list[int]] = {}
    for index in np.flatnonzero(depths > 0):
        members.setdefault(int(root[index]), [int(parents[root[index]])]).append(int(index))
    size = max(map(len, members.values()))
    nodes = np.full((len(members), size), count)
    mask = np.zeros((len(members), size, size), dtype=bool)
    place = np.zeros(count, dtype=np.int64)
    for number, family in enumerate(members.values()):
        nodes[number, : len(family)] = family
        local = {index: position for position, index in enumerate(family)}
        for position, index in enumerate(family):
            place[index] = number * size + position
            mask[number, position, position] = True
            if position:
                mask[number, position] |= mask[number, local[int(parents[index])]]
    mask[:, np.arange(size), np.arange(size)] = True  # padding sees itself, for a finite softmax
    return torch.from_numpy(nodes), torch.from_numpy(mask).unsqueeze(1), torch.from_numpy(place)


def pool_tree(model: FGCLIPTextModel, packed: PackedTexts, tree: PrefixTree, attention: str) -> torch.Tensor:
    """What `FGCLIPTextModel.pool_packed` returns, (N, D), from the nodes of the tree."""
    position_ids = model.position_ids_of(tree.positions, tree.long_text)
    hidden_states = model.embeddings(input_ids=tree.input_ids, position_ids=position_ids).unsqueeze(0)  # (1, U, D)
    *layers, last = model.encoder.layers
    attend = _gathered if attention == "gather" else _masked
    for layer in layers:
        normed = layer.layer_norm1(hidden_states)
        hidden_states = hidden_states + attend(layer.self_attn, normed, packed, tree)
        hidden_states = hidden_states + layer.mlp(layer.layer_norm2(hidden_states))
    # The ends of the texts alone, as in the packed path; each has its own, so there is nothing to share among queries.
    normed = last.layer_norm1(hidden_states)
    query, key, value = _project(last.self_attn, normed[:, tree.ends], normed)
    key, value = (states[:, :, tree.node] for states in (key, value))
    output = packed_attention(last.self_attn, query, key, value, packed, last.self_attn.scale, 0.0)
    pooled = hidden_states[:, tree.ends] + last.self_attn.out_proj(output.flatten(2))
    pooled = pooled + last.mlp(last.layer_norm2(pooled))
    return model.final_layer_norm(pooled[0, packed["restore"]])


def _gathered(attention: nn.Module, normed: torch.Tensor, packed: PackedTexts, tree: PrefixTree) -> torch.Tensor:
    states = (part[:, :, tree.node] for part in _project(attention, normed, normed))  # (1, heads, T, head_dim)
    output = packed_attention(attention, *states, packed, attention.scale, 0.0)  # (1, T, heads, head_dim)
    return attention.out_proj(output[:, tree.token].flatten(2))


def _masked(attention: nn.Module, normed: torch.Tensor, packed: PackedTexts, tree: PrefixTree) -> torch.Tensor:
    nodes, mask, place = tree.families
    families, size = nodes.shape
    # (1, heads, U, head_dim) and a row of zeros for padding -> (families, heads, size, head_dim)
    states = (
        F.pad(part[0], (0, 0, 0, 1))[:, nodes.flatten()].unflatten(1, (families, size)).transpose(0, 1)
        for part in _project(attention, normed, normed)
    )
    output = F.scaled_dot_product_attention(*states, attn_mask=mask, scale=attention.scale)
    output = output.transpose(1, 2).flatten(2).flatten(0, 1)  # (families * size, D)
    return attention.out_proj(output[place].unsqueeze(0))


def _project(attention: nn.Module, queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Query, key and value, (1, heads, U or N, head_dim) each."""
    pairs = ((attention.q_proj, queries), (attention.k_proj, keys), (attention.v_proj, keys))
    return tuple(
        projection(states).unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)
        for projection, states in pairs
    )
