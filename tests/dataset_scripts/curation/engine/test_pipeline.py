"""Whole runs on the local engine: what they write, resume, refusals to mix, a step of one's own."""

import pytest
from datasets import load_dataset

from dataset_scripts.curation.__main__ import main
from dataset_scripts.curation.engine.pipeline import curate, describe
from dataset_scripts.curation.engine.recipe import make_recipe
from dataset_scripts.curation.published_layout import export
from dataset_scripts.curation.steps import STEPS
from dataset_scripts.finehard import FineHARD
from dataset_scripts.schema import FEATURES
from tests.dataset_scripts.curation.chat_server import completion, serve
from tests.dataset_scripts.curation.curation_models import scene, write_scenes
from tests.dataset_scripts.curation.engine.pipeline_runs import read
from tests.dataset_scripts.held import held

TEXT = {"shard_size": 4, "steps": {"expressions": {}, "negatives": {}, "quality": {"text_bias": False}}}


@pytest.fixture(scope="module")
def run(finehard, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    return output, curate(make_recipe(TEXT), finehard, output, workers=1)


def test_records_have_the_schema_and_all_their_negatives(run):
    output, report = run
    dataset = load_dataset(str(output / "records"), split="train", cache_dir=str(output / "cache"))
    assert dataset.features == FEATURES
    assert len(dataset) == 10
    assert [len(set(record["regions"][0]["negatives"])) for record in dataset] == [10] * 10
    assert dataset[3]["image"].size == (64, 64)
    assert report["stages"]["negatives"]["counts"]["negatives"] == 100
    assert [stage["records"] for stage in report["stages"].values()] == [10] * 6


def test_published_layout_from_the_records_reads_back(run, tmp_path):
    output, _ = run
    assert export(output / "records", tmp_path / "out") == 10
    back = list(
        FineHARD(root=str(tmp_path / "out"), cache_dir=str(tmp_path / "c")).as_streaming_dataset(split="train")
    )
    for record, new in zip(read(output), back, strict=True):
        assert (record["caption"], record["short_captions"]) == (new["caption"], new["short_captions"])
        (old_region,), (new_region,) = record["regions"], new["regions"]
        assert old_region["negatives"] == new_region["negatives"]
        assert new_region["bbox"] == pytest.approx(old_region["bbox"], abs=1e-5)


@pytest.mark.slow  # each process of each stage loads its libraries
def test_two_processes_give_what_one_gives(run, finehard, tmp_path):
    curate(make_recipe(TEXT), finehard, tmp_path / "two", workers=2)
    assert read(tmp_path / "two") == read(run[0])


def test_done_shards_stay_and_missing_ones_are_made_alike(run, finehard):
    output, _ = run
    before, kept = read(output), output / "work" / "negatives" / "000001.parquet"
    changed = kept.stat().st_mtime_ns
    for path in (output / "work").glob("[nqr]*/000000.*"):
        path.unlink()
    curate(make_recipe(TEXT), finehard, output, workers=1)
    assert read(output) == before
    assert kept.stat().st_mtime_ns == changed


def test_other_settings_are_not_mixed_in(run, finehard):
    output, _ = run
    other = {**TEXT, "steps": {**TEXT["steps"], "negatives": {"count": 5}}}
    with pytest.raises(ValueError, match=r"count: 10 → 5.*--redo prior"):
        curate(make_recipe(other), finehard, output, workers=1)
    with pytest.raises(ValueError, match="was begun with"):
        curate(make_recipe({**TEXT, "shard_size": 5}), finehard, output, workers=1)
    curate(make_recipe(other), finehard, output, workers=1, redo="negatives")
    assert {len(r["negatives"]) for record in read(output) for r in record["regions"]} == {5}
    curate(make_recipe(TEXT), finehard, output, workers=1, redo="negatives")


def test_a_second_run_on_the_same_folder_is_refused(run, finehard):
    with held(run[0]), pytest.raises(ValueError, match=r"another command is writing to .*: process \d+ on"):
        curate(make_recipe(TEXT), finehard, run[0], workers=1)


def test_dry_run_writes_nothing(finehard, tmp_path):
    text = describe(make_recipe(TEXT), finehard, tmp_path / "new")
    assert "10 records in 3 shards" in text
    assert not (tmp_path / "new").exists()


def captions_only(root, number=6):
    """Pictures with alt text, without boxes."""
    folder = write_scenes(root, number)
    for i in range(number):
        (folder / f"{i:04d}.txt").write_text(scene(i)[1])
    return folder


def test_data_that_lacks_what_a_step_needs_fails_at_once(tmp_path):
    images = captions_only(tmp_path / "images")
    arguments = ["--recipe", "text", "--input", str(images), "--output", str(tmp_path / "o"), "--workers", "1"]
    for _ in range(2):  # a second run has the input's shards already
        with pytest.raises(
            ValueError,
            match=r"^negatives needs regions with short_expr, and no record .* has any\. Add the step grounding, or",
        ):
            main(arguments)
    assert not (tmp_path / "o" / "work" / "expressions").exists()
    main([*arguments, "--steps", "expressions"])
    bare = write_scenes(tmp_path / "bare", 2)
    with pytest.raises(ValueError, match="expressions needs caption or short_captions"):
        main(["--recipe", "text", "--input", str(bare), "--output", str(tmp_path / "p")])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"None of the input's records can be read: \{'not an image': 1\}"):
        main(["--recipe", "text", "--input", str(tmp_path / "broken"), "--output", str(tmp_path / "q")])


def test_a_step_of_ones_own_is_one_file_and_one_line(finehard, tmp_path, monkeypatch):
    """It asks a model, needs a count over the whole data set, and has a word in the report; nothing else is told."""
    monkeypatch.setitem(STEPS, "loudness", "tests.dataset_scripts.curation.engine.loudness:Loudness")
    with serve(lambda request, n: completion("!" * 3)) as (url, seen):
        chat = {"base_url": url, "model": "m"}
        recipe = make_recipe({"shard_size": 4, "steps": {"expressions": {}, "loudness": {"chat": chat}}})
        assert "1 request a record: endpoint m" in describe(recipe, finehard, tmp_path / "o")
        report = curate(recipe, finehard, tmp_path / "o", workers=1)
    assert {record["caption"].split(".")[1] for record in read(tmp_path / "o")} == {"!!! one of 10"}
    assert report["loudness"] == "loud"
    assert report["stages"]["loudness"]["usage"]["kept"] == 10
    assert 8 <= len(seen) <= 10  # pictures of a shard that say the same are asked about once
    with pytest.raises(ValueError, match="loudness, which reads expressions"):
        make_recipe({"steps": {"loudness": {"chat": chat}}})
