"""What only a GPU shows: `make test-gpu`. With FGCLIP_TEST_DEVICE=cpu, as in `make test-all`, the same checks run on the CPU."""

import os
from pathlib import Path

import pytest
import torch

from tests.training.conftest import datasets_cache, other_shards, sample, shards, start  # noqa: F401


@pytest.fixture(scope="session")
def device() -> str:
    return os.environ.get("FGCLIP_TEST_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    asked = os.environ.get("FGCLIP_TEST_DEVICE")
    if asked != "cpu" and not (asked and torch.get_device_module(asked).is_available()):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs a GPU (make test-gpu)"))
