"""Shards and published layouts as training records, map-style or streaming."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(__name__, {"load": ["load_training_data"], "stream": ["TrainingStream"]})
