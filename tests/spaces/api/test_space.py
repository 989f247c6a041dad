"""The service as a Docker Space: every file that its Dockerfile copies is there, and it asks for what it imports."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import RepoCard

from spaces.publish import stage_space


def test_the_space_holds_what_its_dockerfile_copies(tmp_path: Path) -> None:
    assert stage_space("api", tmp_path, "user/my-fgclip") == {"FGCLIP_MODEL": "user/my-fgclip"}
    dockerfile = (tmp_path / "Dockerfile").read_text()
    copied = re.findall(r"COPY --chown=user (\S+) ", dockerfile)
    assert {"fgclip", "modeling_fgclip", "dataset_scripts", "eval", "spaces/api"} < set(copied)
    assert all((tmp_path / name).exists() for name in copied)
    assert "python -m spaces.api" in dockerfile
    assert (tmp_path / "spaces/api/__main__.py").is_file()
    card = RepoCard.load(tmp_path / "README.md", repo_type="space")
    assert (card.data.sdk, card.data.app_port, card.data.models) == ("docker", 7860, ["user/my-fgclip"])
    required = {
        re.split(r"[\[=><]", line)[0] for line in (tmp_path / "spaces/api/requirements.txt").read_text().splitlines()
    }
    assert {"ray", "fastapi", "torch", "transformers", "datasets", "filelock", "requests"} <= required
    assert not list(tmp_path.rglob("*.pyc"))
