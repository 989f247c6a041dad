"""A command starts itself again with the heap's settings, once, and only where nothing is lost by it."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fgclip import heap
from fgclip.heap import MENDED, TUNABLES, heap_settings

ROOT = Path(__file__).parents[2]
library, version = platform.libc_ver()
affected = pytest.mark.skipif(
    library != "glibc" or tuple(map(int, version.split("."))) >= MENDED, reason="this C library needs no settings"
)

PROGRAM = """
import os, sys
from fgclip.command_line import run_command

def main(arguments):
    print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:])

if __name__ == "__main__":
    {before}
    run_command(main)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Runs the program; returns whether it ran in the process that was started, its tunables and its arguments."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    program = tmp_path / "program.py"

    def run(
        *words: str, before: str = "pass", tunables: str | None = None, stdin: bool = False
    ) -> tuple[str, list[str]]:
        program.write_text(PROGRAM.format(before=before))
        environment = os.environ | ({"GLIBC_TUNABLES": tunables} if tunables else {})
        process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        printed, _ = process.communicate(program.read_text() if stdin else None)
        assert process.returncode == 0
        pid, given, *arguments = printed.split()
        assert int(pid) == process.pid
        return given, arguments

    return run


@affected
@pytest.mark.parametrize("way", [["-m", "program"], ["-W", "ignore", "{folder}/program.py"]])
def test_a_command_has_the_settings(start, way, tmp_path):
    words = [word.format(folder=tmp_path) for word in way]
    assert start(*words, "--output", "a  b") == (TUNABLES, ["--output", "a", "b"])


@affected
def test_what_the_user_set_stays(start, tmp_path):
    program = str(tmp_path / "program.py")
    assert start(program, tunables="glibc.malloc.arena_max=2")[0] == f"glibc.malloc.arena_max=2:{TUNABLES}"
    assert start(program, tunables="glibc.malloc.tcache_count=7")[0] == "glibc.malloc.tcache_count=7"


@pytest.mark.parametrize(
    "before",
    ["import torch", "import threading, time; threading.Thread(target=time.sleep, args=(1,)).start()"],
    ids=["has torch", "has threads"],
)
def test_a_process_at_work_is_left_alone(start, before, tmp_path):
    assert start(str(tmp_path / "program.py"), before=before)[0] == "None"


def test_text_from_a_pipe_is_read_once(start):
    assert start("-", stdin=True)[0] == "None"


@pytest.mark.parametrize(
    ("found", "needed"),
    [(("glibc", "2.36"), True), (("glibc", "2.39"), False), (("glibc", "2.41"), False), (("", ""), False)],
)
def test_which_libraries_need_them(found, needed, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: found)
    assert heap_settings() == ({"GLIBC_TUNABLES": TUNABLES} if needed else {})
