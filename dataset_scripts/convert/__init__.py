"""From annotations and images, wherever they are, to trainable shards."""

from dataset_scripts.convert.pipeline import ConvertSettings, convert
from dataset_scripts.convert.source import Source, finehard_source

__all__ = ["ConvertSettings", "Source", "convert", "finehard_source"]
