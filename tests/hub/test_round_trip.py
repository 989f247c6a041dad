"""Train → push → load in a process without this project → pipelines: the same numbers; and what the repository holds."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from torch.testing import assert_close

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.checkpoint_folder import code_files
from modeling_fgclip.family import FGCLIP

REPO = "tester/tiny-fgclip"
LABELS = ["a red star", "a blue circle", "a large green square"]
BOXES = [[5, 5, 60, 40], [20, 10, 90, 70]]

LOAD = """
import json, torch
from PIL import Image
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification, AutoProcessor, pipeline
repo, labels, boxes = {repo!r}, {labels!r}, {boxes!r}
image = Image.open("photo.png")
logits = []
for auto in (AutoModel, AutoModelForCausalLM, AutoModelForZeroShotImageClassification):
    model = auto.from_pretrained(repo, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
    with torch.no_grad():
        logits.append(model(**processor(images=image, text=labels)).logits_per_image.tolist())
pipe = pipeline("zero-shot-image-classification", model=repo, trust_remote_code=True)
scores = {{r["label"]: r["score"] for r in pipe(image, candidate_labels=labels, hypothesis_template="{{}}")}}
regions = pipeline("fine-grained-region-classification", model=repo, trust_remote_code=True)
features = pipeline("image-feature-extraction", model=repo, trust_remote_code=True)(image)
print(json.dumps(dict(logits=logits, scores=scores, features=len(features),
    regions=regions(image, boxes=boxes, candidate_labels=labels))))
"""


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 30).convert("RGB").save(path)
    return path


def test_repository_holds_what_is_needed_and_nothing_else(hub, published):
    files = hub.files(REPO)
    expected = {path.name for path in code_files(FGCLIP)} | {
        "README.md",
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    }
    assert set(files) - {".gitattributes"} == expected
    imports = re.compile(rb"^\s*(?:from|import) +([.\w]+)", re.MULTILINE)
    # What transformers itself needs.
    known = {*sys.stdlib_module_names, "torch", "transformers", "huggingface_hub", "httpx", "numpy", "PIL"}
    for name, content in files.items():
        assert b"hf_secretOfTheTests" not in content
        if name.endswith(".py"):
            modules = {module.decode().split(".")[0] for module in imports.findall(content)}
            assert modules - {""} <= known, (name, modules - known)


def test_same_logits_in_a_process_without_this_project(hub, published, run_client, photo, tmp_path):
    Image.open(photo).save(tmp_path / "photo.png")
    loaded = run_client(LOAD.format(repo=REPO, labels=LABELS, boxes=BOXES), tmp_path, project=False)
    model, processor = FGCLIPModel.from_pretrained(published).eval(), FGCLIPProcessor.from_pretrained(published)
    image = Image.open(photo)
    with torch.no_grad():
        output = model(**processor(images=image, text=LABELS, boxes=BOXES))
    for logits in loaded["logits"]:
        assert_close(torch.tensor(logits), output.logits_per_image, rtol=1e-5, atol=1e-5)
    expected = output.logits_per_image.softmax(-1)[0]
    assert_close(torch.tensor([loaded["scores"][label] for label in LABELS]), expected, rtol=1e-4, atol=1e-5)
    region_logits = output.region_embeds[0] @ output.text_embeds.t() * output.scales[1]
    for row, scores in zip(loaded["regions"], region_logits.softmax(-1), strict=True):
        assert [entry["score"] for entry in row] == sorted((entry["score"] for entry in row), reverse=True)
        by_label = {entry["label"]: entry["score"] for entry in row}
        assert_close(torch.tensor([by_label[label] for label in LABELS]), scores, rtol=1e-4, atol=1e-5)
    assert loaded["features"] == 1


def test_card_names_the_run(hub, published):
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    assert card.data.library_name == "transformers"
    text = card.text
    assert "### Stage 2\n" in text
    assert "`losses=global=1 regional=0.1 hard=0.5`" in text
    assert "16 records" in text
    assert "sample/train" in text
    assert str(published.parent) not in text
    record = json.loads((published / "training_run.json").read_text())
    assert record["steps"] == 2
    assert f"{record['losses']['loss_hard']:.4f}" in text
    assert f"torch {torch.__version__.split('+')[0]}" in text
    assert "xie2025fgclip" in text


def test_every_line_of_the_cards_example_runs(hub, published, run_client, photo, tmp_path):
    Image.open(photo).convert("RGB").save(tmp_path / "photo.jpg")
    text = hub.files(REPO)["README.md"].decode()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    transformers_blocks = [block for block in blocks if "sentence_transformers" not in block]
    assert len(transformers_blocks) == 2
    assert len(blocks) == 3
    run_client("\n".join(transformers_blocks) + '\nprint("null")', tmp_path, project=False)


@pytest.mark.slow
def test_the_cards_sentence_transformers_example_runs(hub, published, run_client, photo, tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs the extra sentence-transformers")
    Image.open(photo).convert("RGB").save(tmp_path / "photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", hub.files(REPO)["README.md"].decode(), re.DOTALL)
    (block,) = [block for block in blocks if "sentence_transformers" in block]
    run_client(block + '\nprint("null")', tmp_path, project=False)


@pytest.mark.slow
def test_offline_after_the_first_load(hub, published, run_client, photo, tmp_path):
    Image.open(photo).save(tmp_path / "photo.png")
    code = LOAD.format(repo=REPO, labels=LABELS, boxes=BOXES)
    online = run_client(code, tmp_path, project=False)
    asked = len(hub.requests)
    assert run_client(code, tmp_path, project=False, offline=True) == online
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_pinned_revision(hub, published, run_client, tmp_path):
    sha = hub.repositories["models", REPO].branches["main"]
    code = f"""
import json
from transformers import AutoModel
model = AutoModel.from_pretrained({REPO!r}, revision={sha!r}, trust_remote_code=True)
print(json.dumps(sorted(model.state_dict())[0]))
"""
    assert isinstance(run_client(code, tmp_path, project=False), str)


FOLDER = """
from training.publishing import main
main([{folder!r}, "tester/from-folder", *{options!r}])
print("null")
"""


@pytest.mark.slow
def test_from_the_command_line_with_evaluation_and_as_pull_request(hub, published, run_client, tmp_path):
    results = tmp_path / "evaluation" / "results"
    results.mkdir(parents=True)
    score = {"value": 0.625, "count": 80, "chance": 1 / 11, "control": 0.1}
    (results / "fgovd.json").write_text(json.dumps({"task": "fgovd", "scores": {"hard": score}}))
    run_client(FOLDER.format(folder=str(published), options=["--evaluation", str(tmp_path / "evaluation")]), tmp_path)
    assert hub.repositories["models", "tester/from-folder"].private
    card = ModelCard(hub.files("tester/from-folder")["README.md"].decode())
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_name, result.metric_value) == ("fgovd", "hard", 62.5)
    assert "| fgovd | hard | 62.5 | 9.1 | 10.0 | 80 |" in card.text
    run_client(FOLDER.format(folder=str(published), options=["--create_pr"]), tmp_path)
    assert "62.5" not in hub.files("tester/from-folder", revision="refs/pr/1")["README.md"].decode()
    assert "62.5" in hub.files("tester/from-folder")["README.md"].decode()
