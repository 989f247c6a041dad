"""The small LLaVA's pictures, questions and score, on the smallest sample."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks import tiny_llava
from dataset_scripts.sample import generate_sample
from dataset_scripts.sample.captions import expression
from dataset_scripts.sample.views import views_of
from tests.training.llava.towers import write_tower


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    generate_sample(folder / "sample", train=3, test=3, seed=5)
    write_tower("fgclip", folder / "random")
    return folder


def rows_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_every_object_is_asked_about_alone_and_in_its_scene(quickstart, tmp_path):
    tiny_llava.write_data(quickstart / "sample", tmp_path)
    for split, ending in (("train", ""), ("test", "_test")):
        views = [view for view, _ in views_of(quickstart / "sample", split, 128, 5) if view.window is None]
        things = [thing for view in views for thing in view.things]
        alone, whole = rows_of(tmp_path, f"alone{ending}"), rows_of(tmp_path, f"whole{ending}")
        assert (len(alone), len(whole)) == (len(things), len(views))
        for row, thing in zip(alone, things, strict=True):
            assert sorted(row["kinds"]) == ["border", "color"]
            for kind, answer in zip(row["kinds"], row["conversations"][1::2], strict=True):
                words = expression(thing.looks)
                assert f"with a {answer['value']} border" in words if kind == "border" else answer["value"] in words
        for row, view in zip(whole, views, strict=True):
            assert len(row["conversations"]) == 4 * len(view.things)


def test_a_picture_of_one_object_keeps_its_quadrant_alone():
    scene = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    left = np.asarray(tiny_llava.alone(Image.fromarray(scene), "bottom left"))
    assert np.array_equal(left[4:, :4], scene[4:, :4])
    assert (left[:4] == scene[4, 4]).all()
    assert (left[4:, 4:] == scene[4, 4]).all()


def test_the_score_is_that_of_greedy_generation(quickstart, tmp_path, monkeypatch):
    """Questions that a model was trained on for a moment: some of its answers are right."""
    monkeypatch.setattr(tiny_llava, "LESSONS", {"alone": (60, 4)})
    tiny_llava.run(quickstart, "random", "alone", tmp_path, seed=0)
    folder, rows = tmp_path / "random" / "alone", rows_of(tmp_path, "alone")
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    right = {"color": [], "border": []}
    for row in rows:
        messages = []
        image = {"type": "image", "image": Image.open(tmp_path / row["image"])}
        for place, (kind, asked, answer) in enumerate(
            zip(row["kinds"], row["conversations"][::2], row["conversations"][1::2], strict=True)
        ):
            text = {"type": "text", "text": asked["value"].removeprefix("<image>\n")}
            messages.append({"role": "user", "content": [text] if place else [image, text]})
            inputs = processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
            with torch.no_grad():
                made = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            said = processor.tokenizer.decode(made)
            right[kind].append(said.startswith(f" {answer['value']}</s>"))
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer["value"]}]})
    found = tiny_llava.score(folder, rows, tmp_path)
    assert {kind: found[kind] for kind in right} == {kind: 100 * np.mean(hits) for kind, hits in right.items()}
    assert 0 < found["color"] + found["border"] < 200
