"""The pages, as a reader would follow them: each page's blocks run in a folder of their own, in their order.

Against the Hub stand-in, which serves a small `qihoo360/fg-clip-base` in the published format and `user/my-fgclip`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.checkpoint_folder import add_integrations
from tests.hub_stand_in import HubStandIn, hub_stand_in
from tests.published_repository import write_published_repository

from .blocks import ROOT, Block, blocks, name, pages

# What makes a training of two steps of one that a page shows.
TWO_STEPS = "--use_cpu --max_steps 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --dataloader_num_workers 0"


def runs(block: Block) -> bool:
    return block.language == "python" or block.says("run") or block.says("train")


PAGES = [page for page in pages() if any(map(runs, blocks(page)))]


@pytest.fixture(scope="module")
def hub(tmp_path_factory, golden_checkpoint, processor) -> HubStandIn:
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
        yield stand_in


def steps_of(page: Path) -> list[list[str]]:
    """Programs to run one after the other; Python blocks between two shell blocks are one program."""
    steps: list[list[str]] = []
    program: list[str] = []

    def end_program() -> None:
        if program:
            steps.append([sys.executable, "-c", "\n".join(program)])
            program.clear()

    for block in filter(lambda block: block.runs_here, blocks(page)):
        if block.value("file"):
            continue
        if block.language == "python" and not block.says("serve"):
            program.append(block.code)
        elif block.language == "bash" and runs(block):
            end_program()
            code = block.code.replace("\\\n", " ")
            if block.says("train"):
                code = "\n".join(f"{line} {TWO_STEPS}" for line in code.splitlines())
            steps.append(["bash", "-ec", code])
    end_program()
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page_runs(page: Path, hub: HubStandIn, tmp_path: Path):
    _write_inputs(tmp_path, hub)
    for block in blocks(page):
        if file := block.value("file"):
            (tmp_path / file).write_text(block.code, encoding="utf-8")
    environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{environment['PATH']}"
    for step in steps_of(page):
        done = subprocess.run(step, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, step[-1][-1500:] + done.stdout[-1500:] + done.stderr[-3000:]
        assert environment["HF_TOKEN"] not in done.stdout + done.stderr


def _write_inputs(folder: Path, hub: HubStandIn) -> None:
    """What the pages suppose: photographs, boxes, the command, a finished run to publish."""
    for photo in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        (folder / photo).parent.mkdir(exist_ok=True)
        Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 20).convert("RGB").save(folder / photo)
    instances = {
        "images": [{"id": 0, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "mug"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 10, 50, 50]}],
    }
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "bin").mkdir()
    script = folder / "bin" / "fgclip"  # this checkout's, wherever the environment was installed from
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "fgclip" / "__main__.py"} "$@"\n')
    script.chmod(0o755)
    finished = folder / "outputs" / "stage2"
    finished.mkdir(parents=True)
    source = hub.repositories["models", "user/my-fgclip"]
    for file, content in source.commits[source.branches["main"]].items():
        (finished / file).write_bytes(content)
