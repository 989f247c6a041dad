"""What every adapter's test uses."""

import pytest
import torch

from eval.adapters import ModelAdapter

BOXES = torch.tensor([[[0.1, 0.0, 0.6, 0.9], [0.5, 0.5, 1.0, 1.0]], [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
TEXTS = ["a red cup", "the long story of a very small dog"]


def require_fingerprint(adapter: ModelAdapter) -> None:
    """The same again and under another name; another for other weights, preprocessing or tokenization."""
    first, name = adapter.fingerprint(), adapter.name
    adapter.name = "another name"
    assert adapter.fingerprint() == first
    adapter.name = name
    for method in ("preprocess", "tokenize"):
        with pytest.MonkeyPatch.context() as patch:
            original = getattr(adapter, method)
            patch.setattr(adapter, method, lambda *args, original=original: {**original(*args), "more": 1})
            assert adapter.fingerprint() != first
    weight = next(adapter.model.parameters())
    with torch.no_grad():
        weight += 1
        assert adapter.fingerprint() != first
        weight -= 1
