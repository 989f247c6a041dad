"""Zero-shot evaluation of FG-CLIP and its peers: `evaluate_model(...)`, or `python -m eval --help`."""

from eval.results import Result, Score, write_results
from eval.runner import evaluate_model

__all__ = ["Result", "Score", "evaluate_model", "write_results"]
