"""The sheet, what is computed from its marks, and the text-only control."""

import json
import random
import re

import pyarrow.parquet as pq
import pytest

from dataset_scripts.curation.engine.shards import write_shard
from dataset_scripts.curation.review.agreement import agreement, main, qualified, wilson
from dataset_scripts.curation.review.sheet import main as sheet
from dataset_scripts.curation.review.text_bias import Row, measure
from dataset_scripts.schema import FEATURES
from tests.dataset_scripts.curation.curation_models import scene


def test_wilson_interval():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for successes, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(successes, total) == pytest.approx((low, high), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def test_qualified_rate_over_negatives_and_regions():
    marks = {f"r{i}/{j}": "bad" if i == 0 else "good" for i in range(10) for j in range(10)}
    result = qualified(marks)
    assert (result["marked"], result["good"], result["rate"], result["regions"]) == (100, 90, 0.9, 10)
    assert result["interval"] == wilson(90, 100)
    # all the bad ones are in one region of equal size: the variance is that of 10 regions, not of 100 negatives
    half = 1.959964 * (0.9 * 0.1 / 9) ** 0.5
    assert result["interval_by_region"] == pytest.approx((0.9 - half, 1.0), abs=1e-6)
    assert qualified({}) == {"marked": 0, "good": 0, "regions": 0}
    with pytest.raises(ValueError, match="is 'maybe'"):
        qualified({"r/0": "maybe"})


def test_agreement_and_kappa():
    # Cohen's kappa of the table [[20, 5], [10, 15]] is 0.4
    first = ["good"] * 25 + ["bad"] * 25
    second = ["good"] * 20 + ["bad"] * 5 + ["good"] * 10 + ["bad"] * 15
    a, b = ({f"r/{i}": m for i, m in enumerate(marks)} for marks in (first, second))
    result = agreement({**a, "only/0": "bad"}, b)
    assert (result["both_marked"], result["rate"]) == (50, 0.7)
    assert result["kappa"] == pytest.approx(0.4)
    assert agreement({"r/0": "good"}, {"r/0": "good"})["kappa"] is None
    assert agreement({}, a) == {"both_marked": 0, "agreed": 0}


@pytest.fixture
def records(tmp_path):
    import io

    buffer = io.BytesIO()
    scene(0)[0].save(buffer, "PNG")
    evil = "a red <script>alert(1)</script> ball"
    rows = [
        {
            "image": {"bytes": buffer.getvalue(), "path": None},
            "caption": "c",
            "short_captions": [],
            "source_id": "</script><b>x",
            "regions": [
                {
                    "bbox": [0.25, 0.5, 0.75, 1.0],
                    "score": 1.0,
                    "short_expr": text,
                    "long_expr": evil,
                    "negatives": negatives,
                }
                for text, negatives in ((evil, ["a blue <i>ball</i>"]), ("a red ball", ["a blue ball", "a blue cube"]))
            ],
        }
    ]
    write_shard(tmp_path / "records" / "train-00000-of-00001.parquet", rows, FEATURES, {})
    return tmp_path


def test_sheet_shows_box_and_negatives_and_runs_nothing_from_the_data(records, capsys):
    sheet(["--input", str(records), "--output", str(records / "s.html"), "--negatives", "3"])
    page = (records / "s.html").read_text()
    assert page.count("<script") == 2  # the sheet's own two
    assert "<i>ball" not in page
    assert "a blue &lt;i&gt;ball&lt;/i&gt;" in page
    assert '<rect x="16.0" y="32.0" width="32.0" height="32.0"/>' in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page).group(1))
    assert sorted(data["automatic"].values()) == ["bad", "bad", "good"]  # markup, another object, a good one
    marks = {"sheet": data["sheet"], "automatic": data["automatic"], "marks": dict.fromkeys(data["automatic"], "good")}
    (records / "marks.json").write_text(json.dumps(marks))
    capsys.readouterr()
    main([str(records / "marks.json")])
    report = json.loads(capsys.readouterr().out)
    path = str(records / "marks.json")
    assert report["qualified"][path]["rate"] == 1
    assert report["with_automatic_checks"][path]["rate"] == pytest.approx(1 / 3)
    assert len(pq.read_table(records / "records").to_pylist()) == 1


def test_sheet_without_records_or_negatives_says_so(tmp_path):
    (tmp_path / "records").mkdir()
    command = ["--input", str(tmp_path), "--output", str(tmp_path / "s.html")]
    with pytest.raises(ValueError, match=r"holds no \.parquet shards"):
        sheet(command)
    record = {"image": {"path": None, "bytes": b""}, "caption": "c", "short_captions": [], "regions": []}
    write_shard(tmp_path / "records" / "000000.parquet", [{**record, "source_id": "a"}], FEATURES, {})
    with pytest.raises(ValueError, match="has negatives"):
        sheet(command)


COLORS = ["red", "blue", "green", "white", "black", "brown", "pink", "gold", "tan", "grey", "teal", "lime"]


def rows(number, weights, exchangeable):
    """Positives drawn by `weights`; negatives either are drawn to be exchangeable with them or hold no frequent color."""
    rng = random.Random(0)
    result = []
    for i in range(number):
        if exchangeable:
            values = rng.sample(COLORS, 4)
        else:
            values = [rng.choices(COLORS[:3], weights)[0], *rng.sample(COLORS[3:], 3)]
        texts = [f"a {color} dog" for color in values]
        result.append(Row(texts[0], texts[1:], f"image {i // 2}"))
    return result


def test_control_is_at_chance_on_exchangeable_texts_and_sees_what_gives_them_away():
    fair = measure(rows(600, [1, 1, 1], exchangeable=True))
    assert fair.chance == 0.25
    assert fair.top1_interval.low < 0.25 < fair.top1_interval.high
    assert fair.auc == pytest.approx(0.5, abs=0.05)
    unfair = measure(rows(600, [5, 3, 2], exchangeable=False))
    assert unfair.top1 > 0.99
    assert unfair.auc > 0.99


def test_control_needs_images_enough():
    with pytest.raises(ValueError, match="needs at least 5 images"):
        measure(rows(4, [1, 1, 1], True))
