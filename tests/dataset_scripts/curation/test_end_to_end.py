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

from dataset_scripts.curation.models.chat import make_backend
from dataset_scripts.curation.models.messages import ChatSettings, Request
from dataset_scripts.curation.models.parser import parse_negatives
from dataset_scripts.curation.models.prompts import load_prompt
from dataset_scripts.curation.models.structured import schema_fault
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
ENVIRONMENT |= {"RAY_worker_niceness": "0"}  # Ray lets all other processes go first, on a busy machine for ever


def wait_for(health: str, process: subprocess.Popen) -> None:
    for _ in range(1200):
        try:
            with urllib.request.urlopen(health, timeout=30) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "the server has ended"
        time.sleep(0.5)
    raise TimeoutError(health)


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
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(300)


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
    truth = {f"{number:04d}.png": scene(number)[1] for number in range(200)}
    assert sum(truth[row["source_id"]].split()[3] == row["caption"].split()[3] for row in outputs["local"]) > 150
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


@contextmanager
def llama_server():
    """A real llama.cpp server: FGCLIP_LLAMA_SERVER is its program, FGCLIP_GGUF a chat model's file."""
    program, model = os.environ.get("FGCLIP_LLAMA_SERVER"), os.environ.get("FGCLIP_GGUF")
    if not (program and model):
        pytest.skip("needs FGCLIP_LLAMA_SERVER (llama-server) and FGCLIP_GGUF (a model)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-m", model, "--host", "127.0.0.1", "--port", str(port), "-t", "1", "-c", "2048"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(300)


def test_llama_cpp_follows_the_schema_and_a_model_s_answers_are_usable_or_named(tmp_path):
    """Whatever the model knows: as many texts as asked for, none too long, and every bad one has a reason."""
    schema = load_prompt("negatives_v2").fill_schema(count=4, length=40)
    with llama_server() as url:
        chat = ChatSettings(base_url=url, model="m", concurrency=1, max_tokens=300, timeout=900)
        request = Request("You answer with JSON.", 'Write 4 wrong versions of "a red train".', schema=schema)
        answers = []
        make_backend(chat).ask([request], lambda *_: None, lambda _, answer: answers.append(answer))
        step = Negatives(NegativeSettings(method="mixed", chat=chat, count=4))
        region = {"bbox": [0.0, 0.0, 1.0, 1.0], "score": 1.0, "short_expr": "a red train", "negatives": []}
        batch = {"source_id": ["a"], "failures": [[]], "regions": [[{**region, "long_expr": None}]]}
        (made,) = step(batch)["regions"][0]
    (answer,) = answers
    assert (answer.failure, answer.finish_reason) == (None, "stop")
    assert schema_fault(answer.text, schema, cut=False) is None
    assert len(parse_negatives(answer.text).candidates) <= 4
    assert step.chat.backend.refusal is None
    assert step.checker.reasons("a red train", made["negatives"]) == [None] * 4
    usage = step.chat.account.to_dict()
    print({name: number for name, number in usage.items() if name.startswith("round")})
