"""Whole runs that ask a language model: budgets, failures, kills, negatives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from dataset_scripts.curation.__main__ import main
from dataset_scripts.curation.engine.pipeline import curate
from dataset_scripts.curation.engine.progress import BudgetExceeded, Progress
from dataset_scripts.curation.engine.recipe import make_recipe
from tests.dataset_scripts.curation.chat_server import completion, serve
from tests.dataset_scripts.curation.curation_models import write_scenes
from tests.dataset_scripts.curation.engine.pipeline_runs import published, read
from tests.dataset_scripts.curation.schema_server import small_model


def recaption_recipe(url, **chat):
    values = {"base_url": url, "model": "m", "concurrency": 2, "retries": 0, "timeout": 300, **chat}
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
        deadline = time.monotonic() + 300
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
