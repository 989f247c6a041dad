"""Packed texts against the padded path: equal features, equal gradients."""

import random

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel, PackedTexts, pack_texts, text_encoder
from modeling_fgclip.packed_text import make_tiles
from modeling_fgclip.packed_tiles import SHORT, lay_out

TEXTS = [
    "a dog",
    "a light red wooden star with a dark blue border at the top left of the scene",
    "a cat",
    "two objects on a plain grey background with soft light and a bird in a tree",
    "dog",
    "a light red wooden star",
    "a light red metal star",
    "a light green metal star with a border",
    "dog",
]
LONG = [False, True, True, False, True, False, False, True, False]


def padded_features(model: FGCLIPModel, processor) -> torch.Tensor:
    rows = [
        model.get_text_features(processor(text=text, long_text=is_long)["input_ids"], walk_short_pos=not is_long)
        for text, is_long in zip(TEXTS, LONG, strict=True)
    ]
    return torch.cat(rows)


def packed_texts(processor, share_prefixes: bool, rows: int = 1) -> PackedTexts:
    encoded = [processor.encode_texts([text], is_long)[0] for text, is_long in zip(TEXTS, LONG, strict=True)]
    return pack_texts(encoded, LONG, share_prefixes, rows)


def packed_features(model: FGCLIPModel, processor, share_prefixes: bool = False, rows: int = 1) -> torch.Tensor:
    return model.get_packed_text_features(packed_texts(processor, share_prefixes, rows))


def test_nodes_are_filled_up(processor):
    nodes = len(packed_texts(processor, True)["input_ids"])
    for rows, filled in ((nodes, nodes), (nodes + 1, nodes + 1), (nodes - 1, 2 * nodes - 2)):
        packed = packed_texts(processor, True, rows)
        assert {len(packed[name]) for name in ("input_ids", "position_ids", "long_token", "tokens")} == {filled}
        assert packed["nodes"].max() == nodes - 1


@pytest.mark.parametrize(("share_prefixes", "rows"), [(False, 1), (True, 1), (True, 64)])
def test_equals_padded(tiny_model, processor, share_prefixes, rows):
    tiny_model.double()
    gradients = []
    packed = packed_features(tiny_model, processor, share_prefixes, rows)
    for features in (padded_features(tiny_model, processor), packed):
        tiny_model.zero_grad()
        (features.square().sum() + features[:, 0].sum()).backward()
        gradients.append({name: p.grad for name, p in tiny_model.text_model.named_parameters()})
        gradients[-1]["features"] = features.detach()
    for name, gradient in gradients[0].items():
        assert_close(
            gradients[1][name], gradient, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_half_precision(tiny_model, processor):
    """Autocast, and half-precision weights, within what bfloat16 can tell apart."""
    expected = packed_features(tiny_model, processor)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = packed_features(tiny_model, processor)
    half = packed_features(tiny_model.bfloat16(), processor)
    assert half.dtype == torch.bfloat16
    for features in (autocast, half):
        assert torch.cosine_similarity(features.float(), expected).min() > 0.999


def test_a_flag_for_each_text(tiny_model, processor):
    """Short and long texts side by side in one padded batch."""
    inputs = processor(text=TEXTS, long_text=True)
    mixed = tiny_model.get_text_features(inputs["input_ids"], walk_short_pos=~torch.tensor(LONG))
    assert_close(mixed, padded_features(tiny_model, processor), rtol=1e-4, atol=1e-5)


def test_layout():
    packed = pack_texts([[1, 5, 6, 9], [1, 9], [1, 7, 9], [1, 8, 9]], [False, True, False, True])
    assert packed["input_ids"].tolist() == [1, 9, 1, 7, 9, 1, 8, 9, 1, 5, 6, 9]
    assert packed["position_ids"].tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 2, 3]
    assert packed["cu_seqlens"].tolist() == [0, 2, 5, 8, 12]
    assert packed["length_groups"] == [(1, 2), (2, 3), (1, 4)]
    assert packed["long_text"].tolist() == [True, False, True, False]
    assert packed["restore"].tolist() == [3, 0, 1, 2]


def test_layout_of_shared_prefixes():
    packed = pack_texts([[1, 5, 6, 9], [1, 9], [1, 5, 9], [1, 5, 9], [1, 5, 7, 9]], [False] * 4 + [True], True)
    # Packed: 1 9 | 1 5 9 | 1 5 9 | 1 5 6 9 | 1 5 7 9, of which the last is long.
    assert packed["nodes"].tolist() == [0, 3, 0, 2, 6, 0, 2, 6, 0, 2, 5, 8, 1, 4, 7, 9]
    assert packed["tokens"].tolist() == [8, 12, 9, 1, 13, 10, 4, 14, 11, 15]
    assert packed["input_ids"].tolist() == [1, 1, 5, 9, 5, 6, 9, 7, 9, 9]
    assert packed["position_ids"].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert packed["long_token"].tolist() == [False, True, False, False, True, False, False, True, False, True]


def random_texts(count: int, words: int) -> tuple[list[list[int]], list[bool]]:
    """Of few different tokens, so that many are equal or begin alike."""
    rng = random.Random(count * 100 + words)
    texts = [[0, *rng.choices(range(1, words), k=rng.randrange(6)), 9] for _ in range(count)]
    return texts, rng.choices([False, True], k=count)


@pytest.mark.parametrize(("count", "words"), [(1, 3), (2, 2), (2, 3), (9, 2), (30, 3), (200, 4)])
def test_nodes_are_distinct_beginnings(count, words):
    """As many nodes as there are distinct beginnings of texts, and each token's node ends the same beginning."""
    texts = random_texts(count, words)
    plain, shared = pack_texts(*texts), pack_texts(*texts, share_prefixes=True)
    packed = zip(plain["input_ids"].split(plain["cu_seqlens"].diff().tolist()), plain["long_text"], strict=True)
    beginnings = [(bool(is_long), *ids[: end + 1].tolist()) for ids, is_long in packed for end in range(len(ids))]
    node_of = dict(zip(beginnings, shared["nodes"].tolist(), strict=True))
    assert len(shared["input_ids"]) == len(set(node_of.values())) == len(node_of)
    assert [node_of[beginning] for beginning in beginnings] == shared["nodes"].tolist()
    assert shared["nodes"][shared["tokens"]].tolist() == list(range(len(node_of)))


@pytest.mark.parametrize(("texts", "flags"), [([], []), ([[1, 2], []], [True, True]), ([[1, 2]], [])])
def test_refuses_what_it_cannot_pack(texts, flags):
    with pytest.raises(ValueError, match="pack_texts"):
        pack_texts(texts, flags)


@pytest.mark.parametrize("share_prefixes", [False, True])
@pytest.mark.parametrize("lengths", ["mixed", "short", "long"])
def test_tiles_of_short_texts_change_nothing(tiny_model, monkeypatch, share_prefixes, lengths):
    """As on a GPU: features and gradients of tiled attention are those of attention text by text."""
    tiny_model.double()
    rng = random.Random(0)
    sizes = {"mixed": (2, 70), "short": (2, SHORT), "long": (SHORT + 1, 70)}[lengths]
    start = [rng.randrange(5, 50) for _ in range(8)]
    texts = [[*start, *(rng.randrange(5, 50) for _ in range(100))][: rng.randint(*sizes)] for _ in range(90)]
    texts[1] = texts[0]
    results = []
    for tiled in (False, True):
        if tiled:
            monkeypatch.setattr(text_encoder, "tiles_for", lambda packed, states, _: make_tiles(packed, states.dtype))
        tiny_model.zero_grad()
        packed = pack_texts(texts, [len(text) > 40 for text in texts], share_prefixes)
        features = tiny_model.get_packed_text_features(packed)
        (features.square().sum() + features[:, 0].sum()).backward()
        results.append({"features": features.detach()})
        results[-1] |= {name: weight.grad for name, weight in tiny_model.text_model.named_parameters()}
    for name, value in results[0].items():
        assert_close(results[1][name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_tiles_hold_each_token_once_and_texts_of_one_length():
    lengths = [1] * 130 + [2, 3, 3] + [13] * 25 + [SHORT] * 4 + [SHORT + 1, 200]
    starts = np.append(0, np.cumsum(lengths))
    slots, places, texts = lay_out(starts)
    tokens = np.arange(starts[-1])
    assert (slots[places] == tokens).all()
    assert len(np.unique(places)) == len(tokens)
    text = np.repeat(np.arange(len(lengths)), lengths)
    tiled = texts.size
    assert len(slots) == tiled + SHORT + 1 + 200
    for place, token in zip(places, tokens, strict=True):
        if place < tiled:
            assert texts.flat[place] == text[token]
    # Of 130 texts of one token, two tiles and two slots of another; of 25 of 13 tokens, four a tile.
    assert len(texts) == 3 + 1 + 1 + 7 + 2
    assert (texts >= 0).sum() == starts[len(lengths) - 2]
