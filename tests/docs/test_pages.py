"""The pages, as a reader would follow them: each page's blocks run in a folder of their own, in their order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_stand_in import HubStandIn

from .blocks import ROOT, Block, blocks, name, pages

# What makes a training of two steps of one that a page shows.
TWO_STEPS = "--use_cpu --max_steps 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --dataloader_num_workers 0"


def runs(block: Block) -> bool:
    return block.language == "python" or block.says("run") or block.says("train")


PAGES = [page for page in pages() if any(map(runs, blocks(page)))]


def program_of(page: Path) -> str:
    """The page as one program, as a reader has one Python open beside a shell."""
    program = ["import subprocess", ""]
    for block in blocks(page):
        if block.value("file") or not block.runs_here:
            continue
        if block.language == "python" and not block.says("serve"):
            program.append(block.code)
        elif block.language == "bash" and runs(block):
            code = block.code.replace("\\\n", " ")
            if block.says("train"):
                code = "\n".join(f"{line} {TWO_STEPS}" for line in code.splitlines())
            program.append(f"subprocess.run(['bash', '-ec', {code!r}], check=True)")
    return "\n".join(program)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_page_runs(page: Path, hub: HubStandIn, inputs: Path):
    for block in blocks(page):
        if file := block.value("file"):
            (inputs / file).write_text(block.code, encoding="utf-8")
    environment = hub.environment(inputs / "home") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{inputs / 'bin'}:{Path(sys.executable).parent}:{environment['PATH']}"
    program = [sys.executable, "-c", program_of(page)]
    done = subprocess.run(program, cwd=inputs, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert environment["HF_TOKEN"] not in done.stdout + done.stderr
