"""What a reader of the pages has: a Hub with small checkpoints, and a folder with photographs and boxes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.checkpoint_folder import add_integrations
from tests.conftest import FIXTURES
from tests.hub_stand_in import HubStandIn, hub_stand_in
from tests.published_repository import write_published_fgclip2, write_published_repository

from .blocks import ROOT


@pytest.fixture(scope="session")
def hub(tmp_path_factory, golden_checkpoint, processor, fgclip2_processor) -> HubStandIn:
    """`user/my-fgclip` as published by us, `qihoo360/fg-clip-base` as it is: CLIP's files and model type."""
    folder = tmp_path_factory.mktemp("docs_hub")
    published, ours = folder / "published", folder / "ours"
    write_published_repository(published, golden_checkpoint, processor.tokenizer)
    FGCLIPModel.from_pretrained(published, dtype="float32").save_pretrained(ours)
    FGCLIPProcessor.from_pretrained(published).save_pretrained(ours)
    add_integrations(ours)
    with hub_stand_in() as stand_in:
        stand_in.add("qihoo360/fg-clip-base", published)
        stand_in.add("user/my-fgclip", ours)
        successor = write_published_fgclip2(folder / "fgclip2", FIXTURES / "tiny_fgclip2", fgclip2_processor.tokenizer)
        stand_in.add("qihoo360/fg-clip2-base", successor)
        yield stand_in


@pytest.fixture
def inputs(tmp_path: Path, hub: HubStandIn) -> Path:
    """A folder with what the pages suppose: photographs, boxes, the command, a finished run to publish."""
    for photo in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        (tmp_path / photo).parent.mkdir(exist_ok=True)
        Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 20).convert("RGB").save(tmp_path / photo)
    instances = {
        "images": [{"id": 0, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "mug"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 10, 50, 50]}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "fgclip"  # this checkout's, wherever the environment was installed from
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "fgclip" / "__main__.py"} "$@"\n')
    script.chmod(0o755)
    finished = tmp_path / "outputs" / "stage2"
    finished.mkdir(parents=True)
    source = hub.repositories["models", "user/my-fgclip"]
    for file, content in source.commits[source.branches["main"]].items():
        (finished / file).write_bytes(content)
    return tmp_path
