from __future__ import annotations

import math

import pytest

from dataset_scripts.paths import UnsafePath, checked_relative, image_path
from dataset_scripts.records import (
    clean_box,
    clean_record,
    clean_regions,
    clean_text,
)
from dataset_scripts.report import Report


def test_a_published_record_becomes_the_schema() -> None:
    report = Report()
    region = {"bbox": [0.1, 0.2, 0.3, 0.4, 0.9], "short_expr": "a dog", "long_expr": "a big dog ", "flag_short_neg": 1}
    region["short_expr_negs"] = {"0": "a cat", "1": "a cow"}
    record = clean_record({"caption": " Long. ", "short_caption": "Short", "bbox_info": [region]}, "x.jpg", report)
    assert record == {
        "caption": "Long.",
        "short_captions": ["Short"],
        "regions": [
            {
                "bbox": pytest.approx([0.1, 0.2, 0.3, 0.4]),
                "score": pytest.approx(0.9),
                "short_expr": "a dog",
                "long_expr": "a big dog",
                "negatives": ["a cat", "a cow"],
            }
        ],
        "source_id": "x.jpg",
    }
    assert report.kept == {"regions": 1, "negatives": 2, "regions with negatives": 1}
    assert not report.problems


def test_everything_but_one_caption_is_optional() -> None:
    report = Report()
    assert clean_record({"caption": "A dog."}, "x", report) == {
        "caption": "A dog.",
        "short_captions": [],
        "regions": [],
        "source_id": "x",
    }
    assert not report.problems
    assert clean_record({"bbox_info": []}, "x", report) is None
    assert report.problems == {"record without a caption": 1}


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([0.5, 0.1, 0.4, 0.9], "inverted or empty"),
        ([0.5, 0.5, 0.5, 0.9], "inverted or empty"),
        ([0.1, 0.1, 1.2, 0.9], "outside the image"),
        ([-0.5, 0.1, 0.2, 0.9], "outside the image"),
        ([10, 20, 110, 220], "outside the image"),
        ([0.1, math.nan, 0.2, 0.9], "no finite number"),
        ([0.1, math.inf, 0.2, 0.9], "no finite number"),
        ([0.1, "0.2", 0.2, 0.9], "no finite number"),
        ([True, 0.1, 0.2, 0.9], "no finite number"),
        ([0.1, 0.2, 0.3], "no list"),
        (None, "no list"),
        ("0.1 0.2 0.3 0.4", "no list"),
    ],
)
def test_unusable_boxes_are_counted_or_raised(box, reason: str) -> None:
    report = Report()
    assert clean_box(box, "here", report) is None
    assert sum(report.problems.values()) == 1
    assert reason in next(iter(report.problems))
    with pytest.raises(ValueError, match=reason):
        clean_box(box, "here", Report("raise"))


def test_a_rounded_overshoot_is_clipped_and_counted() -> None:
    report = Report()
    assert clean_box([-0.004, 0.0, 1.0, 1.003], "here", report) == [0.0, 0.0, 1.0, 1.0]
    assert report.kept["boxes clipped to the image"] == 1


def test_a_bad_region_costs_no_other_region() -> None:
    good = {"bbox": [0, 0, 1, 1], "short_expr": "a dog"}
    regions = [
        good,
        {**good, "bbox": [1, 1, 0, 0]},
        {"bbox": [0, 0, 1, 1]},
        "no region",
        {**good, "bbox": [0, 0, 1, 1, "?"]},
    ]
    report = Report()
    record = clean_record({"caption": "c", "bbox_info": regions}, "x", report)
    assert [region["short_expr"] for region in record["regions"]] == ["a dog"]
    assert sum(report.problems.values()) == 4
    record = clean_record({"caption": "c", "bbox_info": {"0": good}}, "x", report)
    assert record["regions"] == []
    assert report.problems["regions are no list"] == 1


def _negatives(negatives: object, report: Report, positive: str | None = "a dog") -> list[str]:
    region = {"bbox": [0, 0, 1, 1], "short_expr": positive, "long_expr": "a big dog", "negatives": negatives}
    return clean_regions([region], "here", report)[0]["negatives"]


@pytest.mark.parametrize("negatives", [["a cat", "A Dog", "a cat", "", 7], {"0": "a cat", "1": "a dog", "2": "A CAT"}])
def test_negatives_come_as_list_or_dict_and_lose_copies(negatives) -> None:
    report = Report()
    assert _negatives(negatives, report) == ["a cat"]
    assert report.problems["negative equals its positive"] == 1
    assert report.problems["negative is repeated"] == 1


def test_other_negatives() -> None:
    report = Report()
    assert _negatives("a cat", report) == []
    assert _negatives(["a cat"], report, positive=None) == []
    assert report.problems == {"negatives are neither a list nor a dict": 1, "negatives without a short expression": 1}
    region = {"bbox": [0, 0, 1, 1], "short_expr": "a dog", "flag_short_neg": 0, "short_expr_negs": {"0": "a cat"}}
    record = clean_record({"caption": "c", "bbox_info": [region]}, "x", report)
    assert record["regions"][0]["negatives"] == []  # the flag says that they are not to be used


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is missing"),
        (" \n", "is missing"),
        (3, "is no text"),
        ("caf\ufffd", "broken encoding"),
        ("\ud83d", "broken"),
    ],
)
def test_unusable_texts(text, reason: str) -> None:
    report = Report()
    assert clean_text(text, "caption", "here", report) is None
    assert reason in next(iter(report.problems))
    str(report).encode()  # the report itself can be printed


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x.jpg", "a/../../x", "a\\..\\x", "C:/x", "http://h/x", "zip::a", "a\0b", "", None, 3, ".."],
)
def test_paths_that_could_leave_their_root_are_refused(path) -> None:
    with pytest.raises(UnsafePath):
        checked_relative(path)


def test_the_published_prefix_is_stripped_before_the_check() -> None:
    assert image_path("grit-20m/data-12m/coyo_image_0/00000/1.jpg") == "coyo_image_0/00000/1.jpg"
    assert image_path("./a//b..c.jpg") == "a/b..c.jpg"
    for path in ("grit-20m/data-12m//etc/passwd", "grit-20m/data-12m/../x"):
        with pytest.raises(UnsafePath):
            image_path(path)


def test_reports_add_up() -> None:
    first, second = Report(), Report()
    for number in range(30):
        first.bad("fault", f"a{number}")
    second.bad("fault", "b")
    second.keep("records", 5)
    first.merge(Report.from_dict(second.as_dict()))
    assert first.problems == {"fault": 31}
    assert first.kept == {"records": 5}
    assert len(first.examples["fault"]) == 20
    with pytest.raises(ValueError, match="'skip'"):
        Report("ignore")
