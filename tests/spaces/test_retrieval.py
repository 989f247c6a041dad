"""The retrieval demo without a browser: by text, by image, and what it refuses."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from eval.adapters.fgclip import FGCLIPAdapter
from eval.images import Boxes, MemoryImage

gradio = pytest.importorskip("gradio", reason="needs the extra spaces")


@pytest.fixture
def retrieval(tiny_model, processor, tmp_path):
    for number, color in enumerate(("red", "blue", "green")):
        image = Image.new("RGB", (80, 60), "white")
        ImageDraw.Draw(image).ellipse((10 * number, 10, 40 + 10 * number, 50), fill=color)
        image.save(tmp_path / f"{color}.png")
    app = Path(__file__).parents[2] / "spaces" / "retrieval" / "app.py"
    spec = importlib.util.spec_from_file_location("retrieval_app", app)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.build  # the page itself is tested in a browser
    return module.Retrieval(FGCLIPAdapter(tiny_model, processor), str(tmp_path)), module


def test_by_image_and_by_text(retrieval, tmp_path):
    search, module = retrieval
    found, save = search.search("", str(tmp_path / "blue.png"), "", module.SHORT, "", 2)
    assert found[0][1] == "1.000 · blue.png"
    page = Path(save.value["path"] if isinstance(save.value, dict) else save.value).read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 2
    plain, _ = found[0]
    marked, _ = search.search("", str(tmp_path / "blue.png"), "", module.SHORT, "a circle", 1)[0][0]
    assert marked.size == (2 * plain.width + 8, plain.height)  # the photograph beside its heat map
    assert len(search.search("a red star", None, "", module.SHORT, "", 3)[0]) == 3
    module.build(search)


def test_by_a_part_of_an_image(retrieval, tmp_path):
    search, _ = retrieval
    with Image.open(tmp_path / "blue.png") as image:
        whole, part = search.example(image, ""), search.example(image, "10 20 60 80")
        region = search.embedder.regions([MemoryImage(image)], [Boxes(np.array([[0.1, 0.2, 0.6, 0.8]], np.float32))])
    assert not torch.equal(whole, part)
    torch.testing.assert_close(part, region[0][0])


def test_boxes_are_tapped_or_written():
    import sys

    common = sys.modules["common"]
    corner, text = common.tapped(None, "", (0.6, 0.8))
    assert (corner, text) == ((0.6, 0.8), "")
    corner, text = common.tapped(corner, text, (0.1, 0.2))
    assert (corner, text) == (None, "10.0 20.0 60.0 80.0")
    assert common.boxes_of(f"{text}\n0, 0, 50, 100") == [(0.1, 0.2, 0.6, 0.8), (0, 0, 0.5, 1)]
    for wrong in ("1 2 3", "a b c d", "50 0 10 10", "0 0 100 101", "\n".join(["0 0 1 1"] * 9)):
        with pytest.raises(gradio.Error):
            common.boxes_of(wrong)


@pytest.mark.parametrize(
    ("text", "image", "part", "message"),
    [
        ("a star", "red.png", "", "not both"),
        ("", None, "", "Type what"),
        ("", "red.png", "0 0 9 9\n9 9 20 20", "one box"),
        ("", "red.png", "0 0 9", "four numbers"),
    ],
)
def test_refused(retrieval, tmp_path, text, image, part, message):
    search, module = retrieval
    with pytest.raises(gradio.Error, match=message):
        search.search(text, str(tmp_path / image) if image else None, part, module.SHORT, "", 1)
