"""The retrieval demo without a browser: by text, by image, and what it refuses."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from eval.adapters.fgclip import FGCLIPAdapter

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
    found = search.search("", str(tmp_path / "blue.png"), module.SHORT, "", 2)
    assert found[0][1] == "1.000 · blue.png"
    plain, _ = found[0]
    marked, _ = search.search("", str(tmp_path / "blue.png"), module.SHORT, "a circle", 1)[0]
    assert plain.tobytes() != marked.tobytes()  # a heat map where a phrase is given
    assert len(search.search("a red star", None, module.SHORT, "", 3)) == 3
    module.build(search)


@pytest.mark.parametrize(("text", "image", "message"), [("a star", "red.png", "not both"), ("", None, "Type what")])
def test_refused(retrieval, tmp_path, text, image, message):
    search, module = retrieval
    with pytest.raises(gradio.Error, match=message):
        search.search(text, str(tmp_path / image) if image else None, module.SHORT, "", 1)
