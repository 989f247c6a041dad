"""A data set that needs no download: rendered scenes with fine-grained captions, boxes and hard negatives."""

from dataset_scripts.sample.write import SampleSettings, generate_sample

__all__ = ["SampleSettings", "generate_sample"]
