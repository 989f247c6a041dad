"""Whole runs on the local engine: sources, resume, refusals to mix, the command line."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dataset_scripts.curation.__main__ import main
from dataset_scripts.curation.engine.input import InputSettings, plan_units, read_unit
from dataset_scripts.curation.engine.pipeline import curate, describe
from dataset_scripts.curation.engine.progress import BudgetExceeded, Progress
from dataset_scripts.curation.engine.recipe import load_recipe, make_recipe
from dataset_scripts.curation.published_layout import export
from dataset_scripts.curation.steps import STEPS
from dataset_scripts.finehard import FineHARD
from dataset_scripts.schema import FEATURES
from tests.dataset_scripts.curation.chat_server import completion, serve
from tests.dataset_scripts.curation.curation_models import scene, write_scenes
from tests.dataset_scripts.curation.schema_server import small_model
from tests.dataset_scripts.held import held

TEXT = {"shard_size": 4, "steps": {"expressions": {}, "negatives": {}, "quality": {"text_bias": False}}}


def published(root: Path, number: int) -> Path:
    """Scenes in FineHARD's layout with a region each."""
    folder = root / "images" / "coyo_image_0" / "00000"
    folder.mkdir(parents=True)
    records = []
    for i in range(number):
        image, caption = scene(i)
        image.save(folder / f"{i:03d}.jpg")
        expression = caption.removeprefix("There is ").split(" on ")[0]
        box = {
            "bbox": [0.1, 0.1, 0.7, 0.7, 0.9],
            "short_expr": expression,
            "long_expr": expression,
            "flag_short_neg": 0,
        }
        path = f"grit-20m/data-12m/coyo_image_0/00000/{i:03d}.jpg"
        records.append({"f_path": path, "caption": caption, "short_caption": caption, "bbox_info": [box]})
    (root / "jsonfiles").mkdir()
    (root / "jsonfiles" / "part-000.json").write_text(json.dumps(records))
    return root


def read(output: Path) -> list[dict]:
    return [row for path in sorted((output / "records").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def finehard(tmp_path_factory):
    return published(tmp_path_factory.mktemp("published"), 10)


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


def encoded(i):
    buffer = io.BytesIO()
    scene(i)[0].save(buffer, "PNG")
    return buffer.getvalue()


def records_of(place, kind="auto", limit=None, **settings):
    """Records by source_id, in shards of three, and all counts."""
    source = InputSettings(kind=kind, **settings).open(str(place))
    with tempfile.TemporaryDirectory() as folder:
        units, report = plan_units(source, Path(folder) / "plan", 3, limit, seed=0)
        assert all(unit.size <= 3 for unit in units)
        images = pickle.loads(pickle.dumps(source.images))  # another process reads
        rows = [row for unit in units for row in read_unit(unit, images, report)]
    assert len({row["source_id"] for row in rows}) == len(rows)
    return {row["source_id"]: row for row in sorted(rows, key=lambda row: row["source_id"])}, report


def tar_of(path, number):
    with tarfile.open(path, "w") as tar:
        for i in range(number):
            for suffix, data in (("json", b"{}"), ("png", encoded(i)), ("txt", f"text {i}".encode())):
                member = tarfile.TarInfo(f"{i:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_folders_parquet_and_published_layouts_are_found_by_their_looks(tmp_path, finehard):
    folder = write_scenes(tmp_path / "images", 5)
    (folder / "0001.txt").write_text("alt text\n")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.md").write_text("not read")
    rows, report = records_of(folder)
    assert list(rows) == [f"{i:04d}.png" for i in range(5)]
    assert [r["short_captions"] for r in rows.values()] == [[], ["alt text"], [], [], []]
    assert report.problems == {"not an image": 1}

    table = pa.table({"jpg": [encoded(i) for i in range(7)], "txt": list("abcdefg"), "key": list(range(7))})
    (tmp_path / "parquet").mkdir()
    pq.write_table(table, tmp_path / "parquet" / "a.parquet", row_group_size=2)
    columns = {"image": "jpg", "short_caption": "txt", "source_id": "key"}
    rows, _ = records_of(tmp_path / "parquet", columns=columns)
    assert [(name, r["short_captions"]) for name, r in rows.items()] == [
        (str(i), [c]) for i, c in enumerate("abcdefg")
    ]
    assert [r["image"]["bytes"] for r in rows.values()] == [encoded(i) for i in range(7)]
    assert set(records_of(tmp_path / "parquet", columns=columns, limit=4)[0]) == set("0123")
    with pytest.raises(ValueError, match="has no column 'image'"):
        records_of(tmp_path / "parquet")

    tar_of(tmp_path / "s.tar", 4)
    rows, _ = records_of(tmp_path / "s.tar")
    assert [(name, r["short_captions"]) for name, r in rows.items()] == [
        (f"s/{i:05d}", [f"text {i}"]) for i in range(4)
    ]

    rows, _ = records_of(finehard)
    assert len(rows) == 10
    assert next(iter(rows.values()))["regions"][0]["score"] == pytest.approx(0.9)


def test_a_flipped_bit_in_a_tar_costs_one_record_and_is_in_the_report(tmp_path):
    """A second reader of tars lost half of the records to it, and counted nothing."""
    tar_of(tmp_path / "s.tar", 20)
    data = bytearray((tmp_path / "s.tar").read_bytes())
    data[data.index(b"00010.png")] ^= 1
    (tmp_path / "s.tar").write_bytes(data)
    recipe = make_recipe({"shard_size": 8, "steps": {"expressions": {}}})
    report = curate(recipe, tmp_path / "s.tar", tmp_path / "out", workers=1)
    assert report["read"] == report["stages"]["input"]["records"] == len(read(tmp_path / "out")) == 19
    assert report["stages"]["input"]["failures"] == {"tar is cut or damaged": 1, "sample without an image": 1}


def test_data_sets_of_others_are_read_by_the_converters_code(tmp_path):
    """COCO: turned pictures, several captions; a table: rows of one picture are one record."""
    folder = write_scenes(tmp_path / "images", 3)
    sides = scene(0)[0].size
    images = [{"id": i, "file_name": f"{i:04d}.png", "width": sides[0], "height": sides[1]} for i in range(3)]
    boxes = [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [0, 0, sides[0] / 2, sides[1]]}]
    categories = [{"id": 7, "name": "red thing"}]
    captions = [{"id": i, "image_id": 1, "caption": text} for i, text in enumerate(("One.", "Two."))]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": captions}))
    options = {"images": str(folder)}
    rows, report = records_of(tmp_path / "i.json", "coco", options=options)
    assert [r["short_captions"] for r in rows.values()] == [["a photo of red thing"], [], []]  # to be recaptioned
    (region,) = rows["0000.png"]["regions"]
    assert (region["bbox"], region["short_expr"]) == ([0, 0, 0.5, 1], "red thing")
    both, _ = records_of(tmp_path / "i.json", "coco", options={**options, "captions": str(tmp_path / "c.json")})
    assert [r["short_captions"] for r in both.values()] == [[], ["One.", "Two."], []]
    alone, _ = records_of(tmp_path / "c.json", "coco", options=options)
    assert [r["short_captions"] for r in alone.values()] == [[], ["One.", "Two."], []]
    assert not report.problems

    (folder / "t.csv").write_text("image,short_caption\n0000.png,One\n0001.png,Other\n0000.png,Two\n0000.png,Two\n")
    rows, report = records_of(folder / "t.csv")
    assert {name: row["short_captions"] for name, row in rows.items()} == {
        "0000.png": ["One", "Two"],
        "0001.png": ["Other"],
    }
    assert report.problems == {"record is repeated": 1}
    with pytest.raises(ValueError, match=r"needs the options \['images'\] and has no options \['pictures'\]"):
        records_of(tmp_path / "i.json", "coco", options={"pictures": "x"})
    with pytest.raises(ValueError, match="leave columns out"):
        records_of(tmp_path / "i.json", "coco", options=options, columns={"image": "x"})


def test_paths_from_data_stay_in_their_folder(tmp_path, finehard):
    (tmp_path / "root" / "jsonfiles").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(encoded(0))
    entry = {"f_path": "../secret.jpg", "caption": "x"}
    (tmp_path / "root" / "jsonfiles" / "a.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=r"no record that could be used: \{'path leaves its root': 1\}"):
        records_of(tmp_path / "root")


def test_nothing_to_read_is_explained(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        InputSettings().open(str(tmp_path / "x"))
    with pytest.raises(ValueError, match="neither jsonfiles"):
        InputSettings().open(str(tmp_path))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "no steps"),
        ({"steps": {"cook": {}}}, "steps is"),
        ({"steps": {"expressions": {"max_word": 3}}}, "has no max_word; there are"),
        ({"steps": {"expressions": {"max_words": "three"}}}, "max_words is 'three'; it must be int"),
        ({"steps": {"grounding": {}}}, "grounding, which reads expressions, .* add `expressions:`"),
        ({"steps": {"expressions": {}}, "engine": "x"}, r"unknown keys \['engine'\]"),
        ({"steps": {"expressions": {}}, "shard_size": 0}, "shard_size is 0"),
        ({"steps": {"recaption": {"chat": {"model": "m", "base_url": "http://x", "key": "k"}}}}, "has no key"),
        ({"steps": {"expressions": {}}, "resources": {"cook": {}}}, "resources names"),
    ],
)
def test_recipes_are_checked(raw, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(raw)


def test_published_recipes_load_and_changes_go_over_them():
    folder = Path(__file__).parents[4] / "dataset_scripts" / "curation" / "recipes"
    for path in folder.glob("*.yaml"):
        recipe = load_recipe(path, ["shard_size=7", "expressions.max_words=9", "seed=3"])
        assert (recipe.shard_size, recipe.steps["expressions"].max_words, recipe.steps["negatives"].seed) == (7, 9, 3)
    with pytest.raises(ValueError, match="name=value"):
        load_recipe(folder / "text.yaml", ["seed"])


def test_command_line(finehard, tmp_path, capsys):
    arguments = ["--recipe", "text", "--input", str(finehard), "--output", str(tmp_path / "o"), "--workers", "1"]
    main([*arguments, "--dry-run"])
    main([*arguments, "--steps", "expressions", "--set", "expressions.max_words=9", "seed=3"])
    assert "10 captions" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"--steps names \['grounding'\]"):
        main([*arguments, "--steps", "grounding"])
    with pytest.raises(SystemExit):
        main([*arguments, "--color", "red"])


def recaption_recipe(url, **chat):
    values = {"base_url": url, "model": "m", "concurrency": 2, "retries": 0, "timeout": 60, **chat}
    return {"shard_size": 10, "steps": {"recaption": {"chat": values}}}


def request_image(request):
    return request["messages"][1]["content"][0]["image_url"]["url"]


def test_budget_stops_the_run_and_it_goes_on_with_a_higher_one(tmp_path):
    images = write_scenes(tmp_path / "images", 30)
    with serve(lambda request, n: completion("A thing lies on a colored table.")) as (url, seen):
        prices = {"prompt_price": 1e5, "completion_price": 1e5}  # 1 a request
        recipe = make_recipe(recaption_recipe(url, max_cost=15.0, **prices))
        with pytest.raises(BudgetExceeded, match=r"cost 20\.00"):
            curate(recipe, images, tmp_path / "out", workers=1)
        higher = make_recipe(recaption_recipe(url, max_cost=100.0, **prices))
        report = curate(higher, images, tmp_path / "out", workers=1)
    assert report["stages"]["recaption"]["usage"]["cost"] == pytest.approx(30)
    assert len(seen) == 30


def test_what_an_endpoint_did_not_answer_can_be_asked_again(tmp_path):
    images = write_scenes(tmp_path / "images", 20)
    with serve(lambda request, n: 503 if n in (3, 4) else completion("A thing lies on a colored table.")) as (
        url,
        seen,
    ):
        recipe = make_recipe(recaption_recipe(url))
        report = curate(recipe, images, tmp_path / "out", workers=1)
        assert report["stages"]["recaption"]["failures"] == {"recaption: HTTP 503": 2}
        assert len(read(tmp_path / "out")) == 18
        report = curate(recipe, images, tmp_path / "out", workers=1, retry_failed=True)
    assert report["stages"]["recaption"]["failures"] == {}
    assert len(read(tmp_path / "out")) == 20
    assert len(seen) == 22


@pytest.mark.slow  # three processes, each of which loads its libraries anew
def test_kill_9_loses_nothing_and_asks_nothing_twice(tmp_path):
    """Killed twice in the middle; every answer that had arrived is used, only those under way are asked again."""
    images = write_scenes(tmp_path / "images", 40)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def answer(request, n):
        time.sleep(0.02)
        return completion("A thing lies on a colored table.")

    with serve(answer) as (url, seen):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(json.dumps(recaption_recipe(url)))
        command = [sys.executable, "-m", "dataset_scripts.curation", "--recipe", str(recipe), "--input", str(images)]
        command += ["--output", str(tmp_path / "out")]
        for stop in (8, 23):
            process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + 300
            while len(seen) < stop and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(read(tmp_path / "out")) == 0
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    asked = Counter(map(request_image, seen))
    assert len(read(tmp_path / "out")) == 40
    # 40 pictures are 32 different ones, as scenes repeat: each shard of 10 asks for its own
    # Two kills; at each, two requests under way and at most one answer that had arrived but was not yet written.
    assert sum(asked.values()) <= 40 + 2 * 3
    usage = json.loads((tmp_path / "out" / "report.json").read_text())["stages"]["recaption"]["usage"]
    assert usage["requests"] == 40


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


def negatives_recipe(url, **settings):
    chat = {"base_url": url, "model": "m", "concurrency": 2, "retries": 0, **settings.pop("chat", {})}
    return {
        "shard_size": 5,
        "steps": {"negatives": {"method": "mixed", "chat": chat, **settings}, "quality": {"text_bias_rows": 100}},
    }


def test_mixed_negatives_give_every_region_with_an_attribute_ten_and_the_report_has_both_sources(tmp_path, capsys):
    data = published(tmp_path / "data", 30)
    with serve(small_model) as (url, _):
        (tmp_path / "recipe.yaml").write_text(json.dumps(negatives_recipe(url)))
        command = ["--recipe", str(tmp_path / "recipe.yaml"), "--input", str(data), "--output", str(tmp_path / "o")]
        main([*command, "--workers", "1"])
    printed = capsys.readouterr().out
    assert [len(set(record["regions"][0]["negatives"])) for record in read(tmp_path / "o")] == [10] * 30
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    counts = report["stages"]["negatives"]["counts"]
    assert counts["negatives by llm"] + counts["negatives by rules"] == 300
    assert 0 < counts["passed by llm"] < counts["checked by llm"]
    assert {"as made", "by llm", "by rules", "uniform choice"} <= set(report["text_bias"])
    usage = report["stages"]["negatives"]["usage"]
    assert usage["round 1: kept"] + usage["round 2: kept"] == counts["negatives by llm"] == usage["kept"]
    assert "usable a request" in printed
    assert "text-only control, by llm" in printed
    assert "of those checked pass" in printed


def test_progress_moves_with_the_answers_of_the_first_record_and_says_warnings_once(tmp_path, capsys):
    """One shard, and a server that gives each answer only when the bar has shown the one before."""
    data, shown, late = published(tmp_path / "data", 8), [(0, "")], []

    def answer(request, n):
        deadline = time.monotonic() + 60
        while shown[-1][0] < 2 * (n - 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        late.append(shown[-1][0] < 2 * (n - 1))
        return completion('{"negatives": [{"color": "red"}]}') if n > 2 else small_model(request, n)

    class Watched(Progress):
        def _show(self):
            super()._show()
            if self.stage.name == "negatives":
                shown.append((self.bar.n, self.bar.postfix or ""))

    with serve(answer) as (url, seen), pytest.MonkeyPatch.context() as patch:
        patch.setattr("dataset_scripts.curation.engine.pipeline.Progress", Watched)
        patch.setattr("dataset_scripts.curation.engine.progress._LOOK", 0.02)
        patch.setattr("dataset_scripts.curation.models.account._SHOWN_EVERY", -1)
        patch.setattr("dataset_scripts.curation.models.chat._WAIT", -1)
        patch.setattr("dataset_scripts.curation.models.account.FIRST", 8)
        recipe = negatives_recipe(url, method="llm", rounds=2, chat={"concurrency": 1})
        recipe["shard_size"] = 8
        curate(make_recipe(recipe), data, tmp_path / "o", workers=1)
    assert late == [False] * len(seen)
    assert len(seen) == 8  # in each of two rounds four different expressions, which two pictures each have
    assert "usable 16%" in shown[-1][1]
    assert "tokens/s" in shown[-1][1]
    assert not list((tmp_path / "o" / "work" / "negatives" / "progress").glob("*"))
    assert capsys.readouterr().err.count("seems to ignore it") == 1


def test_a_run_that_wastes_its_money_stops_and_goes_on_with_a_lower_demand(tmp_path):
    data = published(tmp_path / "data", 30)
    with serve(lambda request, n: completion('{"negatives": ["a dog"]}')) as (url, seen):
        recipe = negatives_recipe(url, rounds=1, chat={"stop_below": 0.5})
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        command = ["--recipe", str(tmp_path / "recipe.yaml"), "--input", str(data), "--output", str(tmp_path / "o")]
        with pytest.raises(ValueError, match=r"chat.stop_below is 50.0%. Reasons: object changed \(20\)"):
            main([*command, "--workers", "1"])
        asked = len(seen)
        assert 8 <= asked < 30  # equal expressions of a shard are asked once
        main([*command, "--workers", "1", "--set", "negatives.chat.stop_below=0", "seed=0"])
    assert len({json.dumps(request) for request in seen[:asked]} & {json.dumps(r) for r in seen[asked:]}) <= 8
