"""From annotations and images, wherever they are, to trainable shards."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(
    __name__, {"pipeline": ["convert"], "settings": ["ConvertSettings"], "source": ["Source", "finehard_source"]}
)
