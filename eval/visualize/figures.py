"""The one place that needs matplotlib."""

from __future__ import annotations

from types import ModuleType

from modeling_fgclip.extras import missing_extra


def require_matplotlib() -> ModuleType:
    """matplotlib, or an error that names the extra.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError(missing_extra("Figures need matplotlib", "figures")) from None
    return matplotlib
