"""The code blocks of the pages, and what their fences say of them.

After the language a fence may say:
    run          a shell block that the slow tests execute
    train        the same, with settings that make a training of two steps of it
    file=NAME    the block is a file that the page's commands read
    extra=A,B    needs these packages; left out where they are not installed
    serve        Python that needs a service, run by tests/spaces/api
    shown        is not checked: output, or a language that no test here reads
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Cards are templates, rendered and run by the tests of publishing; metrics have their own tests.
_OTHERS = re.compile(r"(^|/)model_card|^tests/|^CHANGELOG|^eval/metrics/")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    info: str
    code: str

    def says(self, word: str) -> bool:
        return word in self.info.split()

    def value(self, name: str) -> str | None:
        found = re.search(rf"\b{name}=(\S+)", self.info)
        return found and found[1]

    @property
    def runs_here(self) -> bool:
        """Whether the packages of its extra are installed."""
        extra = self.value("extra")
        return extra is None or all(importlib.util.find_spec(name) for name in extra.split(","))


def pages() -> list[Path]:
    """Every page that git knows or would take."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(ROOT / name for name in set(names) if not _OTHERS.search(name) and (ROOT / name).is_file())


def blocks(page: Path) -> list[Block]:
    return [Block(page, *groups) for groups in _FENCE.findall(page.read_text(encoding="utf-8"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
