"""How many processes load, unless told."""

import os

import pytest
import torch

from eval.loading import default_workers


@pytest.mark.parametrize(
    ("device", "cores", "processes", "workers"),
    [
        ("cpu", 16, "1", 0),
        ("cuda", 16, "1", 8),
        ("cuda", 4, "1", 3),
        ("cuda", 1, "1", 1),
        ("cuda", 64, "8", 7),
        ("cuda", 4, "0", 3),
    ],
)
def test_each_process_takes_its_share_of_the_cores(monkeypatch, device, cores, processes, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert default_workers(torch.device(device)) == workers
