"""Where a result was made: versions and hardware."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = ("fgclip", "torch", "transformers", "datasets", "accelerate", "evaluate", "numpy")


def environment() -> dict[str, str]:
    """Versions and hardware, for the record."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"python": platform.python_version(), **versions, "platform": platform.machine(), "device": device}
