"""The paper's numbers (tables 1 to 6, 8 and 9), in percent, for printing beside ours."""

from __future__ import annotations

from dataclasses import dataclass

B16, L14 = "ViT-B/16", "ViT-L/14"


@dataclass(frozen=True)
class PaperTable:
    """One task's part of a table of the paper.

    Attributes:
        number: of the table. columns: names of our scores.
        rows: (method, backbone) → percentages in the order of `columns`; None where the paper has none.
        paper: whose table it is. model: the method that a run is compared with.
    """

    number: int
    columns: tuple[str, ...]
    rows: dict[tuple[str, str], tuple[float | None, ...]]
    paper: str = "the paper"
    model: str = "FG-CLIP"

    @classmethod
    def of(
        cls, number: int, columns: tuple[str, ...], methods: tuple[tuple[str, str], ...], values: str, **source: str
    ) -> PaperTable:
        """`values`: one line a method, a dash where the paper has no number. `source`: `paper` and `model`."""
        lines = [line.split() for line in values.strip().splitlines()]
        rows = {
            method: tuple(None if value == "-" else float(value) for value in line)
            for method, line in zip(methods, lines, strict=True)
        }
        return cls(number, columns, rows, **source)


_METHODS_1 = (
    ("CLIP", B16), ("EVA-CLIP", B16), ("Long-CLIP", B16), ("FineCLIP", B16), ("FG-CLIP", B16),
    ("CLIP", L14), ("EVA-CLIP", L14), ("Long-CLIP", L14), ("FineCLIP", L14), ("FG-CLIP", L14),
)  # fmt: skip
_METHODS_2 = (
    ("CLIP", B16), ("EVA-CLIP", B16), ("RegionCLIP", B16), ("CLIPSelf", B16), ("Long-CLIP", B16), ("FineCLIP", B16), ("FG-CLIP", B16),
    ("CLIP", L14), ("EVA-CLIP", L14), ("Long-CLIP", L14), ("FineCLIP", L14), ("FG-CLIP", L14),
)  # fmt: skip
# F-ViT on a frozen encoder; "F-ViT" itself is on EVA-CLIP, and CLIPSelf is its variant of patches.
_METHODS_3 = tuple(
    (method, backbone) for backbone in (B16, L14) for method in ("F-ViT", "CLIPSelf", "FineCLIP", "FG-CLIP")
)
_STAGES = tuple(
    (name, B16)
    for name in (
        "CLIP",
        "FG-CLIP stage 1",
        "+ stage 2 (global)",
        "+ stage 2 (global, regional)",
        "+ stage 2 (global, regional, hard)",
    )
)

_METHODS_8 = (("FineCLIP on CC2.5M", B16), ("FineCLIP on FG-CLIP's 12M", B16), ("FG-CLIP, stage 2 alone", B16))

LLAVA = "LLaVA-1.5 with FG-CLIP"
_METHODS_9 = (("LLaVA-1.5 with CLIP", "Vicuna 7B"), (LLAVA, "Vicuna 7B"))

_table = PaperTable.of
_R1 = ("i2t_R@1", "t2i_R@1")
PAPER: dict[str, list[PaperTable]] = {
    "fgovd": [
        _table(1, ("hard", "medium", "easy", "trivial"), _METHODS_1, """
            12.0 23.1 22.2 58.5
            14.0 30.1 29.4 58.3
            9.2 18.4 16.2 51.8
            26.8 49.8 50.4 71.9
            46.1 66.6 68.7 83.4
            15.4 25.3 25.7 38.8
            18.3 38.4 35.2 62.7
            9.6 19.7 16.0 39.8
            22.8 46.0 46.0 73.6
            48.4 69.5 71.2 89.7"""),
        _table(6, ("hard", "medium", "easy"), _STAGES, """
            12.0 23.1 22.2
            21.8 41.6 36.2
            25.4 46.8 42.9
            24.5 47.1 49.5
            46.1 66.6 68.7"""),
    ],
    "coco_boxes": [
        _table(2, ("top1",), _METHODS_2, "44.2\n30.6\n40.0\n43.7\n36.7\n48.4\n52.3\n33.8\n32.1\n35.6\n54.5\n63.2"),
        _table(6, ("top1", "top5"), _STAGES, "44.2 72.3\n47.2 74.2\n46.8 73.6\n53.7 81.2\n52.3 79.7"),
        _table(8, ("top1",), _METHODS_8, "50.7\n53.5\n56.1"),
    ],
    "lvis_boxes": [_table(2, ("top1",), _METHODS_2, "20.9\n14.4\n22.2\n7.8\n18.2\n23.3\n28.6\n9.3\n18.3\n10.4\n22.5\n38.3")],
    "openimages_boxes": [_table(2, ("top1",), _METHODS_2, "15.3\n8.8\n19.1\n11.4\n14.9\n18.1\n20.6\n8.3\n9.3\n8.9\n19.1\n23.8")],
    "ov_coco": [
        _table(3, ("novel", "base", "all"), _METHODS_3, """
            17.5 41.0 34.9
            33.6 54.2 48.8
            29.8 45.9 41.7
            35.1 51.7 47.4
            24.7 53.6 46.0
            38.4 60.6 54.8
            40.0 57.2 52.7
            41.2 58.0 53.6"""),
    ],
    "sharegpt4v": [_table(4, _R1, _METHODS_1, """
        78.2 79.6
        90.5 85.5
        94.7 93.4
        70.6 73.3
        96.7 94.9
        86.5 83.6
        91.5 89.4
        95.8 95.6
        73.4 82.7
        97.4 96.8""")],
    "dci": [
        _table(4, _R1, _METHODS_1, """
            45.5 43.0
            41.9 41.2
            51.7 57.3
            35.5 34.4
            61.8 60.6
            37.2 36.4
            47.2 47.8
            44.2 52.5
            40.1 46.2
            66.7 66.1"""),
        _table(6, _R1, _STAGES, "45.5 43.0\n58.3 57.5\n62.7 61.2\n62.4 61.1\n61.8 60.6"),
    ],
    "coco_retrieval": [
        _table(4, _R1, _METHODS_1, """
            51.8 32.7
            58.7 41.6
            57.6 40.4
            54.5 40.2
            64.1 45.4
            58.0 37.1
            64.2 47.9
            62.8 46.3
            - -
            68.9 50.9"""),
        _table(6, _R1, _STAGES, "51.8 32.7\n64.6 44.9\n64.4 46.4\n64.7 45.7\n64.1 45.4"),
        _table(8, _R1, _METHODS_8, "54.4 40.2\n59.6 46.2\n65.9 47.1"),
    ],
    "flickr30k": [_table(4, _R1, _METHODS_1, """
        82.2 62.1
        85.7 71.2
        85.9 70.7
        82.5 67.9
        90.7 76.4
        87.4 67.3
        89.2 77.9
        90.0 76.2
        - -
        93.7 81.5""")],
    "imagenet": [_table(4, ("top1",), _METHODS_1, "68.4\n74.7\n66.8\n55.7\n69.0\n76.6\n80.4\n73.5\n60.8\n76.1")],
    "imagenet_v2": [_table(4, ("top1",), _METHODS_1, "61.9\n67.0\n61.2\n48.8\n61.8\n70.9\n73.8\n67.9\n53.4\n69.0")],
    "gqa": [_table(number, ("accuracy",), _METHODS_9, "61.9\n62.9", model=LLAVA) for number in (5, 9)],
    "pope": [_table(number, ("f1",), _METHODS_9, "85.9\n86.8", model=LLAVA) for number in (5, 9)],
    "refcoco": [_table(number, ("val", "testA", "testB"), _METHODS_9, "76.2 83.4 67.9\n81.4 86.5 74.9", model=LLAVA) for number in (5, 9)],
    # The server scored the paper's; of test it alone has the answers.
    "mmbench": [_table(9, ("dev_en", "test_en", "dev_cn", "test_cn"), _METHODS_9, "65.1 66.5 58.2 58.4\n66.6 66.7 58.8 59.3", model=LLAVA)],
}  # fmt: skip

# Decisions of the real benchmarks, to tell a subset or other data of the same format from them.
BENCHMARK_COUNTS: dict[str, dict[str, int]] = {
    "fgovd": {"hard": 3545, "medium": 2968, "easy": 1299, "trivial": 3545},
    # Of boxes all that the file holds, with those that are left out (crowds, groups).
    "coco_boxes": {"top1": 36_781},  # val2017
    "lvis_boxes": {"top1": 244_707},  # v1 val
    "openimages_boxes": {"top1": 303_980},  # V7 validation; the paper does not say which part it takes
    "ov_coco": {"novel": 4614, "base": 28_538, "all": 33_152},  # boxes of val2017
    "sharegpt4v": {"i2t_R@1": 1000},
    "dci": {"i2t_R@1": 7805},
    "coco_retrieval": {"i2t_R@1": 5000},
    "flickr30k": {"i2t_R@1": 1000},
    "imagenet": {"top1": 50000},
    "imagenet_v2": {"top1": 10000},
    "boxclass_cn": {"top1": 66_258},
    "lit_cn": {"i2t_R@1": 33_010},
    "flickr30k_cna": {"i2t_R@1": 1000},
    "coco_cn": {"i2t_R@1": 1000},
    "gqa": {"accuracy": 12_578},  # testdev_balanced
    "pope": {"f1": 8910},  # with 2,910 random ones, as LLaVA's
    "refcoco": {"val": 10_834, "testA": 5657, "testB": 5095},  # expressions of UNC's split
    "mmbench": {"dev_en": 1164, "dev_cn": 1164},  # questions, each in all its rounds
}
