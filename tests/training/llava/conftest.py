"""A tiny LLaVA, and data in LLaVA's own JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.llava.towers import write_language_model, write_tower
from training.llava.build import build_llava

COLORS = ("red", "green", "blue", "grey")


def row(number: int, turns: int = 1, image: bool = True) -> dict:
    """A conversation about a picture of one color."""
    color, said = COLORS[number % 4], []
    for turn in range(turns):
        start = "<image>\n" if image and turn == 0 else ""
        said.append({"from": "human", "value": f"{start}what color is square {turn}?"})
        said.append({"from": "gpt", "value": color if turn % 2 == 0 else f"it is {color}"})
    return {"id": str(number), **({"image": f"some/{number % 4}.png"} if image else {}), "conversations": said}


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a tower of 16 patches and 2 layers of Llama."""
    folder = tmp_path_factory.mktemp("llava")
    write_tower("fgclip", folder / "fgclip")
    model, processor = build_llava(folder / "fgclip", write_language_model(folder / "lm"))
    model.save_pretrained(folder / "llava"), processor.save_pretrained(folder / "llava")
    return folder / "llava"


@pytest.fixture(scope="session")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """instruct.json, every fourth row of text alone, pretrain.json, and images/."""
    folder = tmp_path_factory.mktemp("conversations")
    (folder / "images" / "some").mkdir(parents=True)
    for number, color in enumerate(((200, 0, 0), (0, 200, 0), (0, 0, 200), (99, 99, 99))):
        Image.fromarray(np.full((30 + number, 50, 3), color, np.uint8)).save(folder / f"images/some/{number}.png")
    rows = [row(number, turns=1 + number % 3, image=number % 4 != 3) for number in range(24)]
    (folder / "instruct.json").write_text(json.dumps(rows))
    (folder / "pretrain.json").write_text(json.dumps([row(number) for number in range(12)]))
    return folder
