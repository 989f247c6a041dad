"""A data set that needs no download: rendered scenes with fine-grained captions, boxes and hard negatives."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(__name__, {"write": ["SampleSettings", "generate_sample"]})
