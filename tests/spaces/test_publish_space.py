"""A demo on the Hub as a Space: what is uploaded, that it runs with its requirements alone, and what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from huggingface_hub import RepoCard
from PIL import Image

from modeling_fgclip.checkpoint_folder import add_integrations
from spaces.publish import main, stage_space
from tests.hub_stand_in import HubStandIn, hub_stand_in

# Only what the Space's requirements install can be imported, and nothing from outside the Space's own folder.
AS_IN_A_SPACE = """
import importlib.metadata as metadata, re, runpy, sys
from importlib.machinery import PathFinder
from pathlib import Path
from packaging.requirements import Requirement
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
wanted = [Requirement(line.strip()) for line in open("requirements.txt") if not line.startswith("#")]
allowed, queue = set(), [(requirement.name, extra) for requirement in wanted for extra in ("", *requirement.extras)]
normal = lambda name: re.sub("[-_.]+", "-", name).lower()
while queue:
    name, extra = queue.pop()
    if (normal(name), extra) in allowed:
        continue
    allowed.add((normal(name), extra))
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            queue += [(requirement.name, extra) for extra in ("", *requirement.extras)]
allowed = {name for name, _ in allowed}
owners = metadata.packages_distributions()
class Installed(PathFinder):
    # Does not find what a Space does not install.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = () if path or Path(name).exists() else owners.get(name.split(".")[0])
        if found and not any(normal(owner) in allowed for owner in found):
            return None
        return PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
sys.path[:] = [path for path in sys.path if path not in ("", ROOT)]
sys.argv = [APP]
runpy.run_path(APP, run_name="__main__")
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hub(tmp_path_factory, processor) -> HubStandIn:
    """With a checkpoint `user/my-fgclip`."""
    from tests.conftest import make_tiny_model

    folder = tmp_path_factory.mktemp("checkpoint")
    make_tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    add_integrations(folder)
    with hub_stand_in() as stand_in:
        stand_in.add("user/my-fgclip", folder)
        yield stand_in


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "more/b.png")):
        Image.new("RGB", (80, 60), (90 * number, 60, 120)).save(folder / name)
    (folder / "notes.txt").write_text("private")
    return folder


def publish(hub: HubStandIn, home: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "spaces.publish", *arguments]
    return subprocess.run(command, cwd=ROOT, env=hub.environment(home), capture_output=True, text=True, check=False)


def answers(folder: Path, app: str, environment: dict[str, str]) -> str:
    """The page of a Space that runs in `folder` as the Hub runs it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    environment |= {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    code = f"ROOT, APP = {str(ROOT)!r}, {app!r}\n{AS_IN_A_SPACE}"
    log = folder.parent / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, stdout=file, stderr=file)
        try:
            for _ in range(600):
                assert process.poll() is None, log.read_text()[-4000:]
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5) as page:
                        return page.read().decode()
                except OSError:
                    time.sleep(0.5)
            raise AssertionError(log.read_text()[-4000:])
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_an_upload_is_private_whole_and_holds_no_token(hub, photos, tmp_path):
    arguments = ("retrieval", "user/search", "--model", "user/my-fgclip", "--images", str(photos))
    done = publish(hub, tmp_path / "home", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    space = hub.repositories["spaces", "user/search"]
    assert space.private
    assert space.variables == {"FGCLIP_MODEL": "user/my-fgclip", "FGCLIP_IMAGES": "images"}
    files = hub.files("user/search", "spaces")
    assert {"README.md", "requirements.txt", "common.py", "retrieval/app.py", "eval/search/source.py"} <= set(files)
    assert {name for name in files if name.startswith("images/")} == {"images/a.png", "images/more/b.png"}
    assert not any(name.startswith(("regions", "training", "tests")) or "__pycache__" in name for name in files)
    card = RepoCard(files["README.md"].decode()).data
    assert (card.sdk, card.app_file, card.models) == ("gradio", "retrieval/app.py", ["user/my-fgclip"])
    assert f"gradio=={card.sdk_version}\n" in files["requirements.txt"].decode()
    secret = hub.environment(tmp_path)["HF_TOKEN"]
    assert not any(secret.encode() in content or str(tmp_path).encode() in content for content in files.values())
    assert secret not in done.stdout + done.stderr
    # Again, with fewer images: nothing of the first upload stays.
    (photos / "a.png").unlink()
    assert publish(hub, tmp_path / "home", *arguments).returncode == 0
    assert "images/a.png" not in hub.files("user/search", "spaces")


@pytest.mark.slow
@pytest.mark.parametrize("demo", ["regions", "retrieval"])
def test_what_was_uploaded_runs_with_its_requirements_alone(demo, hub, photos, tmp_path):
    pytest.importorskip("gradio", reason="needs the extra spaces")
    images = ("--images", str(photos)) if demo == "retrieval" else ()
    done = publish(hub, tmp_path / "home", demo, f"user/{demo}", "--model", "user/my-fgclip", "--public", *images)
    assert done.returncode == 0, done.stderr[-3000:]
    space = hub.repositories["spaces", f"user/{demo}"]
    assert not space.private
    folder = tmp_path / "space"
    for name, content in hub.files(f"user/{demo}", "spaces").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    page = answers(folder, f"{demo}/app.py", {**hub.environment(tmp_path / "home"), **space.variables})
    assert {"regions": "FG-CLIP: region explorer", "retrieval": "The best of 2 images"}[demo] in page


def test_a_dry_run_uploads_nothing(photos, capsys, monkeypatch):
    monkeypatch.setattr("spaces.publish.HfApi", None)  # whoever asks the Hub fails
    main(["retrieval", "user/search", "--model", "user/my-fgclip", "--images", str(photos), "--dry-run"])
    printed = capsys.readouterr().out
    assert "images/more/b.png" in printed
    assert "FGCLIP_MODEL=user/my-fgclip" in printed


def test_images_of_the_hub_are_named(tmp_path):
    variables = stage_space("retrieval", tmp_path / "space", "user/my-fgclip", "user/photos")
    assert variables["FGCLIP_IMAGES"] == "user/photos"
    assert RepoCard.load(tmp_path / "space" / "README.md", repo_type="space").data.datasets == ["user/photos"]


@pytest.mark.parametrize(
    ("demo", "model", "images", "message"),
    [
        ("regions", ".", None, "Publish it first"),
        ("regions", "user/my/fgclip", None, "--model user/my/fgclip"),
        ("regions", "user/my-fgclip", "photos", "belongs to the demo retrieval"),
        ("retrieval", "user/my-fgclip", None, "belongs to the demo retrieval"),
        ("retrieval", "user/my-fgclip", os.path.dirname(__file__), "holds no image"),
    ],
)
def test_refusals(demo, model, images, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        stage_space(demo, tmp_path / "space", model, images)


@pytest.mark.slow
def test_a_model_that_is_not_there_is_refused_before_anything_is_created(hub, tmp_path):
    done = publish(hub, tmp_path / "home", "regions", "user/none", "--model", "user/missing")
    assert done.returncode == 2
    assert "check that user/missing exists" in done.stderr
    assert ("spaces", "user/none") not in hub.repositories
