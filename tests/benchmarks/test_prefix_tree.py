"""The tree of tokens against packed texts: equal features, equal gradients."""

import pytest
from torch.testing import assert_close

from benchmarks.prefix_tree import ATTENTION, build_tree, pool_tree
from modeling_fgclip import pack_texts

START, END = 1, 9
TEXTS = [[1, 2, 3, 4, 9], [1, 2, 3, 5, 9], [1, 2, 9], [1, 6, 3, 4, 9], [1, 2, 3, 4, 9], [1, 7, 7, 7, 7, 7, 9]]
LONG = [False, False, False, False, True, True]


def test_nodes_are_the_distinct_prefixes():
    tree = build_tree(pack_texts(TEXTS, LONG))
    prefixes = {
        (is_long, *text[: end + 1]) for text, is_long in zip(TEXTS, LONG, strict=True) for end in range(len(text))
    }
    assert len(tree.input_ids) == len(prefixes)


@pytest.mark.parametrize("attention", ATTENTION)
def test_equals_packed(tiny_model, attention):
    model = tiny_model.text_model.double()
    packed = pack_texts(TEXTS, LONG)
    tree = build_tree(packed, families=True)
    gradients = []
    for pooled in (model.pool_packed(packed), pool_tree(model, packed, tree, attention)):
        model.zero_grad()
        (pooled.square().sum() + pooled[:, 0].sum()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        gradients[-1]["features"] = pooled.detach()
    for name, gradient in gradients[0].items():
        assert_close(
            gradients[1][name], gradient, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )
