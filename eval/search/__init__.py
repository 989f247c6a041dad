"""Search at scale: embed a folder or a data set once, then query it by text, image or region."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(__name__, {"index": ["Hit", "SearchIndex"]})
