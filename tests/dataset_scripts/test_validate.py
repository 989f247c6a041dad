from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import CLIPTokenizer

from dataset_scripts.convert import ConvertSettings, convert, finehard_source
from dataset_scripts.report import Report
from dataset_scripts.schema import FEATURES
from dataset_scripts.validate.__main__ import main, token_counter
from dataset_scripts.validate.check import check
from dataset_scripts.validate.report import as_text
from modeling_fgclip.text_checks import check_vocabulary


def _count_words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture
def shards(sample: Path, tmp_path: Path) -> Path:
    source = finehard_source(str(sample / "train"), tmp_path, Report())
    convert(source, tmp_path / "shards", ConvertSettings(shard_size=15, workers=2))
    return tmp_path / "shards"


@pytest.mark.parametrize("form", ["shards", "layout", "folder of layouts"])
def test_a_sound_set_is_found_sound(sample: Path, shards: Path, form: str) -> None:
    root = {"shards": shards, "layout": sample / "train", "folder of layouts": sample}[form]
    findings = check(str(root), "train", _count_words)
    published = [r for path in (sample / "train").glob("jsonfiles/*.json") for r in json.loads(path.read_text())]
    regions = [info for record in published for info in record["bbox_info"]]
    assert findings.is_clean
    assert findings.errors.kept["records"] == 40
    assert findings.errors.kept["regions"] == len(regions) == len(findings.areas)
    assert findings.negatives == Counter(len(info.get("short_expr_negs", ())) for info in regions)
    assert set(findings.sides) == {64}
    assert sorted(findings.tokens["caption"]) == sorted(_count_words([r["caption"] for r in published]))
    assert findings.truncated("caption", 10) == 1.0
    assert findings.truncated("caption", 1000) == 0.0
    assert len(findings.examples) == 16


def _spoil(shards: Path) -> dict[str, int]:
    """Rewrites the first shard with one fault a row and says what must be found."""
    path = shards / "train-00000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["image"]["bytes"] = b"<html></html>"
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:-300]
    rows[2]["caption"] = " "
    rows[3]["caption"], rows[3]["short_captions"] = None, []
    rows[4]["regions"][0]["bbox"] = [0.5, 0.5, 0.2, 0.9]
    rows[5]["regions"][0]["bbox"] = [10.0, 10.0, 50.0, 50.0]
    rows[6]["regions"][0]["bbox"] = [float("nan"), 0.0, 0.5, 0.5]
    rows[7]["regions"][0]["bbox"] = [0.5, 0.5, 0.51, 0.9]
    rows[8]["regions"][0]["negatives"] = ["another phrase", rows[8]["regions"][0]["short_expr"]]
    rows[9]["regions"][0]["negatives"] = ["another phrase", "another phrase"]
    rows[10]["source_id"] = rows[11]["source_id"]
    rows[12]["caption"] = rows[13]["caption"]
    pq.write_table(pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema), path)
    return {
        "HTML or XML instead of an image": 1,
        "image is truncated or damaged": 1,
        "caption is missing": 1,
        "record without a caption": 1,
        "box is inverted or empty": 1,
        "box lies outside the image": 1,
        "box has a coordinate that is no finite number": 1,
        "negative equals its positive": 1,
        "negative is repeated": 1,
        "source_id is repeated": 1,
    }


def test_every_fault_is_found_and_named_with_its_place(shards: Path, tmp_path: Path, capsys) -> None:
    expected = _spoil(shards)
    findings = check(str(shards))
    assert dict(findings.errors.problems) == expected
    assert findings.oddities.problems["box narrower than 1/32 of the image"] == 1
    assert findings.oddities.problems["caption is repeated"] == 1
    assert "train-00000.parquet[5]" in findings.errors.examples["box lies outside the image"][0]
    text = as_text(findings)
    assert all(reason in text for reason in expected)
    with pytest.raises(SystemExit) as stopped:
        main([str(shards), "--tokenizer", "none", "--strict", "--output", str(tmp_path / "report")])
    assert stopped.value.code == 1
    main([str(shards), "--tokenizer", "none"])  # without --strict it is for people
    assert json.loads((tmp_path / "report" / "report.json").read_text())["errors"]["problems"] == expected


def test_the_sheet_shows_boxes_where_they_are(sample: Path, tmp_path: Path) -> None:
    main([str(sample / "train"), "--tokenizer", "none", "--output", str(tmp_path), "--examples", "3", "--strict"])
    sheet = Image.open(tmp_path / "sheet.png").convert("RGB")
    findings = check(str(sample / "train"), examples=3)
    x1, y1, _, _ = findings.examples[0][1][0]["bbox"]
    side = 312 - 1  # a cell's picture without its margin of 4
    assert sheet.getpixel((4 + round(x1 * side) + 8, 4 + round(y1 * side))) == (0xE6, 0x19, 0x4B)


def test_shards_are_compared_with_their_manifest(shards: Path, capsys) -> None:
    main([str(shards), "--tokenizer", "none", "--checksums", "--strict"])
    path = shards / "train-00001.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SystemExit) as stopped:
        main([str(shards), "--tokenizer", "none", "--checksums", "--strict"])
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert "shard is cut or damaged" in printed
    assert "record lost with its shard" in printed
    assert "shard is not as its manifest says" in printed


def test_tokens_are_counted_with_the_tokenizer_of_a_checkpoint(
    sample: Path, tmp_path: Path, capsys, tiny_model, processor
) -> None:
    """Whose code is not run for that, nor asked for."""
    tiny_model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    assert "auto_map" in json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    main([str(sample / "train"), "--tokenizer", str(tmp_path / "checkpoint")])
    published = [r for path in (sample / "train").glob("jsonfiles/*.json") for r in json.loads(path.read_text())]
    lengths = sorted(len(processor.tokenizer(record["caption"])["input_ids"]) for record in published)
    printed = capsys.readouterr().out
    assert f"smallest {lengths[0]}, median" in printed
    assert "custom code" not in printed
    with pytest.raises(ValueError, match="--tokenizer none"):
        main([str(sample / "train"), "--tokenizer", str(tmp_path / "nowhere")])


def test_nothing_to_check_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither shards"):
        main([str(tmp_path), "--tokenizer", "none"])


def test_a_missing_folder_is_named_before_a_tokenizer_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mistyped holds neither shards"):
        main([str(tmp_path / "mistyped"), "--tokenizer", str(tmp_path / "no tokenizer")])


def test_a_tokenizer_without_vocabulary_is_refused(tmp_path):
    """CLIPTokenizer makes an empty one of any folder, and of a name that cannot be reached."""
    with pytest.raises(ValueError, match=r"no vocabulary.*--tokenizer none"):
        token_counter(str(tmp_path))
    with pytest.raises(ValueError, match="no vocabulary"):
        check_vocabulary(CLIPTokenizer.from_pretrained(tmp_path))
