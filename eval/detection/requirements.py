"""torchvision, or one sentence about it."""

from __future__ import annotations

from typing import Any


def require_torchvision() -> Any:
    """The torchvision package with working operators.

    Raises:
        ValueError: it is missing, or is of another build than torch.
    """
    try:
        import torchvision
    except Exception as error:  # a CUDA build beside a CPU torch fails with RuntimeError while its operators register
        raise ValueError(
            f"Detection needs a torchvision that fits the installed torch, and importing it failed: {error}. Make an environment of "
            "its own: pip install torch==2.14.1 torchvision==0.29.1, then pip install -e '.[detection]' in the checkout."
        ) from None
    return torchvision
