"""`evaluate` module: top-k accuracy over rows of candidate scores, with ties and the chance level."""

import datasets
import evaluate

from .ranking import top_k_accuracy

_DESCRIPTION = """
Share of rows whose right candidate is among the k best. Rows may have different numbers of candidates: box
classification against all class names, or one positive caption against its hard negatives (FG-OVD, reference 0).
A tie with the right candidate counts as wrong; ties and the chance level are returned beside the accuracy.
"""
_KWARGS = """
Args:
    predictions: list of rows, each a list of float scores, one for every candidate.
    references: list of int, the index of the right candidate of every row.
    k: how many places count (default 1).
Returns:
    accuracy, ties, chance, count.
Examples:
    >>> metric = evaluate.load("eval/metrics/top_k_accuracy")
    >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.7, 0.1]], references=[0, 0])
    {'accuracy': 0.5, 'ties': 0, 'chance': 0.4166666567325592, 'count': 2}
"""
_CITATION = """
@inproceedings{xie2025fgclip,
  title={{FG-CLIP}: Fine-Grained Visual and Textual Alignment},
  author={Xie, Chunyu and Wang, Bin and Kong, Fanjing and Li, Jincheng and Liang, Dawei and Zhang, Gengshen and Leng, Dawei and Yin, Yuhui},
  booktitle={International Conference on Machine Learning},
  year={2025}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS)
class TopKAccuracy(evaluate.Metric):
    """Top-k accuracy behind the interface of `evaluate`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references, k=1):
        result = top_k_accuracy(predictions, references, k)
        return {name: result[name] for name in ("accuracy", "ties", "chance", "count")}
