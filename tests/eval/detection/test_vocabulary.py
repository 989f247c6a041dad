"""Class names, prompts, and settings of the detector."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.detection.config import DetectorConfig
from eval.detection.vocabulary import Vocabulary, check_names, load_templates, prompt_name, prompts, read_names
from eval.embed import Embedder
from tests.eval.color_model import ColorModel


def test_prompts_are_those_of_f_vit() -> None:
    assert len(load_templates()) == len(set(load_templates())) == 63
    assert prompt_name("Hair_dryer/blower") == "hair dryer or blower"
    texts = prompts("elephant", ["There is {article} {} in the scene.", "a photo of {article} {}.", "the toy {}."])
    assert texts == [
        "There is an elephant in the scene.",
        "This is a photo of an elephant.",
        "This is the toy elephant.",
    ]
    assert prompts("cat", ["itap of {article} {}."]) == ["itap of a cat."]


def test_lists_of_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffcat\r\n\n  red panda \n", encoding="utf-8")
    assert read_names(path) == ["cat", "red panda"]
    for names, message in (
        (["cat", "Cat"], "twice"),
        (["Background"], "background"),
        ([], "names no class"),
        (["_"], "cannot"),
    ):
        with pytest.raises(ValueError, match=message):
            check_names(names, "x")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="one class name a line"):
        read_names(path)


def test_a_vocabulary_knows_which_classes_were_trained() -> None:
    embedder = Embedder(ColorModel(), progress=False)
    vocabulary = Vocabulary.of(["red", "blue", "white"], embedder, base=["Red", "white"])
    assert vocabulary.is_base.tolist() == [True, False, True]
    assert vocabulary.embeddings.shape[0] == 4
    lengths = vocabulary.embeddings.norm(dim=-1)
    assert ((lengths - 1).abs() < 1e-5).all()
    for names, message in ((["red", "background"], "embedding of its own"), (["red", "Red"], "twice")):
        with pytest.raises(ValueError, match=message):
            Vocabulary.of(names, embedder, base=["red"])
    names = vocabulary.embeddings[1:]
    assert (names @ names.T).argmax(-1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_weight": 1.5}, "base_weight"),
        ({"novel_weight": -0.1}, "novel_weight"),
        ({"taps": [3, 5, 7]}, "four blocks"),
        ({"taps": [3, 3, 7, 11]}, "rising"),
        ({"norm": "layer"}, "norm"),
        ({"image_size": 0}, "image_size"),
        ({"clip_pooling": "max"}, "clip_pooling"),
        ({"alpha": 1}, "no detector setting alpha"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectorConfig.from_dict(change)
