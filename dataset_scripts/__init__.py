"""FineHARD and own data: schema, reader, generated sample, conversion, streaming, validation, publishing.

``dataset_scripts.load_training_data`` is the one entry point for training; see ``dataset_scripts/streaming/load.py``.
"""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(__name__, {"streaming.load": ["load_training_data"]})
