"""The wheel holds what the checkout's packages hold."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modeling_fgclip.extras import missing_extra

ROOT = Path(__file__).parents[2]
PACKAGES = ("fgclip", "modeling_fgclip", "dataset_scripts", "training", "eval")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    pytest.importorskip("setuptools", "77", reason="builds without isolation, so without a network")
    # A copy, since setuptools leaves build/ and *.egg-info.
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", "dist", "."]
    subprocess.run(command, cwd=source, check=True)
    (file,) = (source / "dist").glob("fgclip-*.whl")
    return zipfile.ZipFile(file)


def test_nothing_is_left_out(wheel):
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert "training/hub/model_card.md" in held


def test_the_console_script(wheel):
    (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "fgclip = fgclip.__main__:main" in wheel.read(entry).decode()


def test_extras_that_errors_name_exist(wheel):
    (metadata,) = (name for name in wheel.namelist() if name.endswith("dist-info/METADATA"))
    extras = {
        line.split(": ")[1] for line in wheel.read(metadata).decode().splitlines() if line.startswith("Provides-Extra")
    }
    assert {"curation", "ray", "search", "export", "lora", "figures", "detection", "open-clip"} <= extras
    # Metadata has `-` for `_`, and an older pip finds no extra under another name than that.
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert set(settings["options.extras_require"]) == extras
    assert missing_extra("Search needs FAISS", "search").endswith(
        "pip install -e '.[search]' in your clone of FG-CLIP."
    )


def test_nobody_is_told_to_install_from_pypi():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    sources = [
        path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".md", ".yaml")
    ]
    assert [str(path) for path in [*pages, *sources] if "fgclip[" in path.read_text(encoding="utf-8")] == []
