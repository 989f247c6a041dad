"""Pure functions on float32 arrays; the same functions stand behind the `evaluate` modules in this folder.

`evaluate.load("eval/metrics/top_k_accuracy")` and `evaluate.load("eval/metrics/retrieval_recall")` load from a path;
each of the two folders is a complete Hub Space.
"""

from eval.metrics.bootstrap import accuracy_interval, bootstrap_interval, paired_difference, permutation_test
from eval.metrics.ratios import mean_ratio, mean_ratio_interval, ratio
from eval.metrics.retrieval_recall.recall import chance_recall, recall_at_k
from eval.metrics.top_k_accuracy.ranking import padded, rank_of_reference, top_k_accuracy

__all__ = [
    "accuracy_interval",
    "bootstrap_interval",
    "chance_recall",
    "mean_ratio",
    "mean_ratio_interval",
    "padded",
    "paired_difference",
    "permutation_test",
    "rank_of_reference",
    "ratio",
    "recall_at_k",
    "top_k_accuracy",
]
