"""The one place that needs matplotlib."""

from __future__ import annotations

from types import ModuleType


def require_matplotlib() -> ModuleType:
    """matplotlib, or an error that names the extra.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError("figures need matplotlib: pip install 'fgclip[figures]'.") from None
    return matplotlib
