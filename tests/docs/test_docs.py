"""The how-tos: every Python block runs, in the order of its page, and so do the commands marked as run.

Against the Hub stand-in, which serves a small `qihoo360/fg-clip-base` in the published format and `user/my-fgclip`.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from PIL import Image

from modeling_fgclip import FGCLIPModel, FGCLIPProcessor
from modeling_fgclip.checkpoint_folder import add_integrations
from tests.hub_stand_in import HubStandIn, hub_stand_in
from tests.published_repository import write_published_repository
from training.arguments import Stage1Arguments, Stage2Arguments
from training.cli import parse_arguments

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OURS = [page for page in PAGES if not page.name.startswith("scale")]
BLOCK = re.compile(r"```(python|bash)([^\n]*)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, what follows it, code) of each block; blocks whose extra is not installed are left out."""
    found = []
    for language, info, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        extra = re.search(r"extra=(\S+)", info)
        if extra is None or all(importlib.util.find_spec(name) for name in extra[1].split(",")):
            found.append((language, info, code))
    return found


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


@pytest.mark.slow
@pytest.mark.parametrize("page", OURS, ids=lambda page: page.stem)
def test_page_runs(page: Path, hub: HubStandIn, tmp_path: Path, tmp_path_factory):
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.effect_mandelbrot((100, 80), (-2, -1, 1, 1), 20).convert("RGB").save(tmp_path / name)
    _write_own_data(tmp_path)
    environment = hub.environment(tmp_path / "home") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    if page.stem == "publish":
        source = hub.repositories["models", "user/my-fgclip"]
        folder = tmp_path / "outputs" / "stage2"
        folder.mkdir(parents=True)
        for name, content in source.commits[source.branches["main"]].items():
            (folder / name).write_bytes(content)
    program: list[str] = []
    steps: list[list[str]] = []
    for language, info, code in blocks(page):
        if language == "python" and info.split()[:1] == ["serve"]:
            compile(code, page.name, "exec")  # run by tests/spaces/api against a service
        elif language == "python":
            program.append(code)
        elif info.split()[:1] == ["run"]:
            steps += [[sys.executable, "-c", "\n".join(program)]] if program else []
            program = []
            steps.append(["bash", "-ec", code])
    steps += [[sys.executable, "-c", "\n".join(program)]] if program else []
    for step in steps:
        done = subprocess.run(step, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, step[-1][-1500:] + done.stdout[-1500:] + done.stderr[-3000:]
        assert environment["HF_TOKEN"] not in done.stdout + done.stderr


def _write_own_data(folder: Path) -> None:
    """Captions and boxes of the images in `photos/`."""
    for name, image in (("captions.csv", "a.jpg"), ("test.csv", "b.png")):
        (folder / name).write_text(f"file,text\n{image},a black fractal\n")
    instances = {
        "images": [{"id": 0, "file_name": "a.jpg", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "fractal"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [10, 10, 50, 50]}],
    }
    (folder / "instances.json").write_text(json.dumps(instances))


@pytest.mark.parametrize("page", OURS, ids=lambda page: page.stem)
def test_links_modules_and_options_exist(page: Path):
    """Also for commands that take too long to run here: their modules are there and know the options."""
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), link
    for language, _, code in BLOCK.findall(text):
        for module, rest in re.findall(r"python -m (\S+)([^\n]*)", code) if language == "bash" else ():
            if module == "venv":
                continue
            spec = importlib.util.find_spec(module)
            assert spec is not None, module
            folder = Path(spec.origin).parent
            sources = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
            for option in re.findall(r"--(\w[\w-]*)", rest):
                assert f"--{option}" in sources or f"{option}:" in sources, (module, option)


LAUNCHES = [
    command
    for page in PAGES
    for language, info, code in BLOCK.findall(page.read_text(encoding="utf-8"))
    if info.split()[:1] == ["launch"]
    for command in code.replace("\\\n", " ").strip().splitlines()
]


@pytest.mark.parametrize("command", LAUNCHES, ids=lambda command: " ".join(re.findall(r"(\w+)\.yaml", command)))
def test_launch_commands_are_understood(command: str, monkeypatch):
    """By the launcher and by the stage: every option exists, the files are there, processes and precision agree."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    assert words[:2] == ["accelerate", "launch"]
    launch = launch_command_parser().parse_args(words[2:])
    config = load_config_from_file(launch.config_file)
    processes = launch.num_processes or config.num_processes
    assert processes % config.num_machines == 0
    assert (launch.machine_rank is not None and launch.main_process_ip is not None) == (config.num_machines > 1)
    stage = {"training/stage1.py": Stage1Arguments, "training/stage2.py": Stage2Arguments}[launch.training_script]
    # tf32 is refused where there is no GPU.
    _, data, training = parse_arguments(stage, [*launch.training_script_args, "--use_cpu", "--tf32", "False"])
    assert training.max_steps > 0 or not data.streaming
    assert data.streaming == ("--streaming" in words)
    assert training.bf16 or config.mixed_precision != "bf16"
