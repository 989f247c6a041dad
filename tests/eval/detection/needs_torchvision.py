"""Imported first by tests that need torchvision. `make test-torchvision` has it and lets nothing be skipped."""

import os

import pytest

from eval.detection.requirements import require_torchvision

try:
    require_torchvision()
except ValueError as error:
    if os.environ.get("FGCLIP_REQUIRE_TORCHVISION"):
        raise
    pytest.skip(f"{error}", allow_module_level=True)
