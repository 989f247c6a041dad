"""FG-CLIP 2's published numbers in percent: tables 1, 2, 4, 5 and 8 of its paper, as in the version of ICML 2026
(Xie et al., arXiv:2510.10921v3). BoxClass-CN's are also on the card of the data set. Table 3 detects by another detector's
boxes (LLMDet), 6 and 7 are of trained models; there are no tasks for them.
"""

from __future__ import annotations

from functools import partial

from eval.report.paper import B16, L14, PaperTable

L16, SO16, H14 = "ViT-L/16", "ViT-So/16", "ViT-H/14"

_OLD = ("CLIP", "EVA-CLIP", "Long-CLIP", "FineCLIP")
_LARGEST = (("SigLIP 2", SO16), ("Meta CLIP 2", H14), ("FG-CLIP 2", SO16))
_METHODS_1 = (
    *((name, B16) for name in (*_OLD, "SigLIP 2", "FG-CLIP", "FG-CLIP 2")),
    *((name, L14) for name in _OLD), ("SigLIP 2", L16), ("FG-CLIP", L14), ("FG-CLIP 2", L16),
    ("Meta CLIP 2", H14), ("SigLIP 2", SO16), ("FG-CLIP 2", SO16),
)  # fmt: skip
_METHODS_2 = (
    *((name, B16) for name in (*_OLD, "SigLIP 2", "FG-CLIP", "FG-CLIP 2")),
    *((name, L14) for name in _OLD), ("SigLIP 2", L16), ("CLOC", L14), ("FG-CLIP", L14), ("FG-CLIP 2", L16),
    ("Meta CLIP 2", H14), ("SigLIP 2", SO16), ("FG-CLIP 2", SO16),
)  # fmt: skip
_CHINESE_2 = tuple(method for method in _METHODS_2 if method[0] in ("SigLIP 2", "FG-CLIP 2", "Meta CLIP 2"))
_METHODS_4 = (
    *((name, B16) for name in (*_OLD, "UMG-CLIP", "FG-CLIP", "SigLIP 2", "FG-CLIP 2")),
    *((name, L14) for name in (*_OLD, "UMG-CLIP", "FG-CLIP", "CLOC")), ("SigLIP 2", L16), ("FG-CLIP 2", L16),
    *_LARGEST,
)  # fmt: skip
_METHODS_5 = (
    *((name, B16) for name in ("R2D2", "Chinese-CLIP", "SigLIP 2", "FG-CLIP 2")),
    ("R2D2", L14), ("Chinese-CLIP", L14), ("SigLIP 2", L16), ("FG-CLIP 2", L16),
    *_LARGEST,
)  # fmt: skip
_METHODS_8 = (
    ("FG-CLIP 2", B16),
    ("without rank", B16),
    ("without textual", B16),
    ("without rank and textual", B16),
)

_R1 = ("i2t_R@1", "t2i_R@1")


_table = partial(PaperTable.of, paper="FG-CLIP 2's paper", model="FG-CLIP 2")

PAPER_FGCLIP2: dict[str, list[PaperTable]] = {
    "fgovd": [
        _table(1, ("hard", "medium", "easy", "trivial"), _METHODS_1, """
            12.0 23.1 22.2 58.5
            14.0 30.1 29.4 58.3
            9.2 18.4 16.2 51.8
            26.8 49.8 50.4 71.9
            24.9 46.5 48.7 85.0
            46.1 66.6 68.7 83.4
            52.3 76.3 80.3 92.0
            15.4 25.3 25.7 38.8
            18.3 38.4 35.2 62.7
            9.6 19.7 16.0 39.8
            22.8 46.0 46.0 73.6
            24.1 47.1 47.4 84.1
            48.4 69.5 71.2 89.7
            55.5 77.5 83.1 92.5
            16.5 36.6 34.7 79.6
            26.0 48.7 49.9 87.4
            54.0 77.4 79.8 93.5"""),
        _table(8, ("hard", "medium", "easy", "trivial"), _METHODS_8, """
            52.3 76.3 80.3 92.0
            50.9 75.1 77.8 93.5
            51.6 75.1 79.1 92.1
            51.7 76.0 77.6 90.7"""),
    ],
    "coco_boxes": [
        _table(2, ("top1",), _METHODS_2, """
            44.2\n30.6\n36.7\n48.4\n53.4\n52.3\n74.9
            33.8\n32.1\n35.6\n54.5\n54.7\n72.9\n63.2\n74.0
            52.0\n62.0\n77.4"""),
        _table(8, ("top1", "top5"), _METHODS_8, "74.9 95.7\n74.0 94.9\n70.1 94.8\n62.7 93.4"),
    ],
    "lvis_boxes": [_table(2, ("top1",), _METHODS_2, """
        20.9\n14.4\n18.2\n23.3\n20.6\n28.6\n47.3
        9.3\n18.3\n10.4\n22.5\n25.9\n32.6\n38.3\n41.9
        24.4\n31.4\n43.9""")],
    "boxclass_cn": [_table(2, ("top1",), _CHINESE_2, "57.9\n60.7\n56.6\n68.6\n55.2\n63.6\n66.5")],
    "sharegpt4v": [_table(4, _R1, _METHODS_4, """
        78.2 79.6
        90.5 85.5
        94.7 93.4
        70.6 73.3
        - -
        96.7 94.9
        66.0 67.9
        95.8 95.4
        86.5 83.6
        91.5 89.4
        95.8 95.6
        73.4 82.7
        - -
        97.4 96.8
        - -
        85.1 84.6
        96.9 96.6
        78.6 79.5
        93.9 89.2
        97.5 96.7""")],
    "dci": [_table(4, _R1, _METHODS_4, """
        45.5 43.0
        41.9 41.2
        51.7 57.3
        35.5 34.4
        - -
        61.8 60.6
        32.3 34.2
        64.5 64.9
        37.2 36.4
        47.2 47.8
        44.2 52.5
        40.1 46.2
        - -
        66.7 66.1
        - -
        48.0 49.3
        70.0 71.6
        46.0 47.1
        53.0 50.2
        70.6 72.1""")],
    "coco_retrieval": [_table(4, _R1, _METHODS_4, """
        51.8 32.7
        58.7 41.6
        57.6 40.4
        54.5 40.2
        64.7 51.6
        64.1 45.4
        71.2 55.2
        72.1 54.5
        58.0 37.1
        64.2 47.9
        62.8 46.3
        - -
        68.9 54.6
        68.9 50.9
        74.8 54.4
        72.1 55.2
        75.1 58.6
        71.0 55.8
        66.8 47.7
        74.6 56.7""")],
    "flickr30k": [
        _table(4, _R1, _METHODS_4, """
            82.2 62.1
            85.7 71.2
            85.9 70.7
            82.5 67.9
            91.4 78.6
            90.7 76.4
            92.6 78.0
            94.1 81.9
            87.4 67.3
            89.2 77.9
            90.0 76.2
            - -
            93.4 83.1
            93.7 81.5
            - -
            94.3 82.6
            96.6 84.8
            94.1 82.5
            91.9 77.0
            95.9 85.0"""),
        _table(8, _R1, _METHODS_8, "94.1 81.9\n93.3 81.9\n93.7 81.8\n93.5 81.6"),
    ],
    "imagenet": [_table(4, ("top1",), _METHODS_4, """
        68.4\n74.7\n66.8\n55.7\n-\n69.0\n81.2\n79.5
        76.6\n80.4\n73.5\n60.8\n-\n76.1\n80.1\n83.1\n83.0
        83.8\n81.7\n84.1""")],
    "imagenet_v2": [_table(4, ("top1",), _METHODS_4, """
        61.9\n67.0\n61.2\n48.8\n66.5\n61.8\n74.5\n72.2
        70.9\n73.8\n67.9\n53.4\n71.6\n69.0\n73.2\n76.5\n77.4
        77.7\n75.7\n77.8""")],
    "lit_cn": [_table(5, _R1, _METHODS_5, """
        35.7 27.4
        45.7 35.6
        4.6 2.6
        82.4 81.1
        48.3 33.3
        48.6 38.9
        14.8 10.9
        86.3 85.9
        17.0 10.8
        77.2 67.6
        87.6 86.3""")],
    "dci_cn": [_table(5, _R1, _METHODS_5, """
        25.9 27.3
        30.1 27.9
        5.0 4.0
        53.9 55.7
        35.6 34.2
        31.4 32.7
        13.6 14.4
        60.4 62.2
        13.4 12.0
        53.8 52.1
        62.7 65.1""")],
    "docci_cn": [_table(5, _R1, _METHODS_5, """
        36.1 36.9
        44.6 43.1
        7.6 5.7
        71.2 75.4
        49.5 46.3
        49.7 50.8
        24.6 27.3
        77.6 81.9
        25.0 21.3
        73.8 77.2
        79.7 84.0""")],
    "flickr30k_cna": [_table(5, _R1, _METHODS_5, """
        69.7 51.1
        75.8 62.4
        71.7 49.1
        85.4 69.9
        78.8 60.0
        82.9 69.6
        79.8 53.2
        90.3 75.0
        78.4 51.7
        89.3 72.2
        91.5 77.2""")],
    "coco_cn": [_table(5, _R1, _METHODS_5, """
        60.1 45.5
        68.8 54.9
        68.6 46.2
        77.2 62.9
        69.6 52.7
        74.3 59.9
        74.2 51.7
        82.8 66.5
        72.0 50.7
        80.1 63.1
        83.2 68.1""")],
}  # fmt: skip


def tables_beside(task: str, architecture: str, fgclip: list[PaperTable]) -> list[PaperTable]:
    """What a report shows beside a run: FG-CLIP 2's tables for its own architecture and for tasks that only its paper has.

    Args:
        task, architecture: of the run. fgclip: the tables of FG-CLIP's paper for the task.
    """
    own = PAPER_FGCLIP2.get(task, [])
    return own if own and (not fgclip or architecture in ("FG-CLIP 2", "SigLIP 2 NaFlex")) else fgclip
