"""Settings of libraries that bound memory, and whoever has set them before."""

import os

import pytest

from eval.host_memory import settle_memory

NAMES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        ({}, ("128", "expandable_segments:True", None)),
        ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}, ("1024", "expandable_segments:True", None)),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, ("128", None, "max_split_size_mb:64")),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, ("128", "expandable_segments:False", None)),
    ],
)
def test_the_environment_wins(given, settled, monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settle_memory()
    assert tuple(os.environ.get(name) for name in NAMES) == settled
