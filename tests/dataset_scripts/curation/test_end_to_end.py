"""The whole pipeline with real components: `transformers serve`, spaCy, OWLv2, both engines. Minutes: marked slow."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataset_scripts.curation.models.messages import ChatSettings
from dataset_scripts.curation.models.prompts import load_prompt
from dataset_scripts.curation.steps.negatives import Negatives, NegativeSettings
from tests.dataset_scripts.curation.curation_models import (
    scene,
    write_captioner,
    write_chat_model,
    write_owlv2,
    write_scenes,
)

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def transformers_serve(model: Path):
    """The real server on loopback."""
    pytest.importorskip("fastapi", reason="needs the extra `serve`")
    pytest.importorskip("uvicorn", reason="needs the extra `serve`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
                    if reply.status == 200:
                        break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, "transformers serve has ended"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def test_200_images_in_one_command_on_both_engines_give_equal_output(tmp_path):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    prompt = load_prompt("recaption_v1")
    captioner = write_captioner(tmp_path / "captioner", steps=120, texts=(prompt.system, prompt.fill(hint="")))
    detector = write_owlv2(tmp_path / "detector")
    images = write_scenes(tmp_path / "images", 200)
    with transformers_serve(captioner) as url:
        chat = {"base_url": url, "model": str(captioner), "max_tokens": 30, "concurrency": 4}
        recipe = {
            "shard_size": 50,
            "steps": {
                "recaption": {"chat": chat},
                "expressions": {},
                "grounding": {"detector": str(detector), "device": "cpu"},
                "negatives": {},
                "quality": {},
            },
        }
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        outputs = {}
        for engine in ("local", "ray"):
            command = [sys.executable, "-m", "dataset_scripts.curation", "--recipe", str(tmp_path / "recipe.yaml")]
            command += ["--input", str(images), "--output", str(tmp_path / engine), "--engine", engine]
            subprocess.run(command, env=ENVIRONMENT, check=True)
            files = sorted((tmp_path / engine / "records").glob("*.parquet"))
            outputs[engine] = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert len(outputs["local"]) == 200
    assert outputs["local"] == outputs["ray"]
    # the captioner has learnt to see colors, so the captions are about the pictures
    colors = [scene(i)[1].split()[3] == row["caption"].split()[3] for i, row in enumerate(outputs["local"])]
    assert sum(colors) > 150
    regions = [region for row in outputs["local"] for region in row["regions"]]
    assert len(regions) > 100
    assert {len(set(region["negatives"])) for region in regions} == {10}


def test_a_real_server_s_nonsense_gives_named_failures_and_no_bad_negative(tmp_path):
    """A language model of random weights: every answer is garbage."""
    model = write_chat_model(tmp_path / "chat")
    with transformers_serve(model) as url:
        chat = ChatSettings(base_url=url, model=str(model), max_tokens=20, concurrency=2)
        step = Negatives(NegativeSettings(method="llm", chat=chat, rounds=1))
        box = {
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "score": 1.0,
            "short_expr": "a red train",
            "long_expr": None,
            "negatives": [],
        }
        names = ("caption", "short_captions", "expressions")
        batch = {
            **{n: [None] * 3 for n in names},
            "source_id": list("abc"),
            "failures": [[], [], []],
            "regions": [[box]] * 3,
        }
        result = step(batch)
    assert [row[0]["negatives"] for row in result["regions"]] == [[], [], []]
    assert all(reason.startswith("negatives: ") for row in result["failures"] for reason in row)
    assert all(result["failures"])
    assert step.chat.account.counts["completion_tokens"] > 0
