"""Shards and published layouts as training records, map-style or streaming."""

from dataset_scripts.streaming.load import load_training_data
from dataset_scripts.streaming.stream import TrainingStream

__all__ = ["TrainingStream", "load_training_data"]
