"""`evaluate` module: recall at k of image-text retrieval, with ties and the chance level."""

import datasets
import evaluate

from .recall import recall_at_k

_DESCRIPTION = """
Share of queries with at least one relevant item among the k best of a gallery. A query may have several relevant
items (an image and its five captions). A tie with the best relevant item counts as wrong; ties and the chance level
are returned beside the recall.
"""
_KWARGS = """
Args:
    predictions: list of rows, each the float scores of one query against the whole gallery.
    references: list of lists of int, the gallery indices that answer each query.
    k: list of numbers of places (default [1, 5, 10]).
Returns:
    recall@k, ties@k and chance@k for every k, and count.
Examples:
    >>> metric = evaluate.load("eval/metrics/retrieval_recall")
    >>> metric.compute(predictions=[[0.9, 0.1], [0.8, 0.3]], references=[[0], [1]], k=[1])
    {'recall@1': 0.5, 'ties@1': 0, 'chance@1': 0.5, 'count': 2}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS)
class RetrievalRecall(evaluate.Metric):
    """Recall at k behind the interface of `evaluate`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("int64")),
                }
            ),
        )

    def _compute(self, predictions, references, k=(1, 5, 10)):
        results = recall_at_k(predictions, references, k)
        flat = {f"{name}@{place}": r[name] for place, r in results.items() for name in ("recall", "ties", "chance")}
        return flat | {"count": len(references)}
