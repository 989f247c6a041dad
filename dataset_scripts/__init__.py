"""FineHARD and own data: schema, reader, generated sample, conversion, streaming, validation, publishing.

``dataset_scripts.load_training_data`` is the one entry point for training; see ``dataset_scripts/streaming/load.py``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load_training_data"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the generator's worker processes need neither torch nor datasets.
    if name == "load_training_data":
        from dataset_scripts.streaming import load_training_data

        return load_training_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
