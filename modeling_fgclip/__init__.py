"""FG-CLIP behind the transformers Auto classes."""

__version__ = "0.1.0.dev0"
