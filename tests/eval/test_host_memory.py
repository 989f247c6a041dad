"""Settings of libraries that bound memory, and whoever has set them before."""

import os
import platform
import subprocess
import sys

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


# Page faults of 50 blocks of 16 MB, each freed before the next.
FAULTS = """
import resource
from eval.host_memory import settle_memory
settle_memory()
b"1" * (16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    b"1" * (16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 50 * (16 << 20) // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap is settled")
@pytest.mark.parametrize(
    ("given", "cleared_anew"),
    [
        ({}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1000000"}, True),
    ],
)
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise(given, cleared_anew):
    names = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert (int(done.stdout) > PAGES // 4) is cleared_anew
