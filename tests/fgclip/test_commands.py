"""The one command line: its table, how commands are called and how they end."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fgclip import command_line
from fgclip.__main__ import _CHECKOUT, find, main, overview
from fgclip.command_line import Parser, called_as, run_command, set_called_as
from fgclip.commands import COMMANDS, resumes

ROOT = Path(__file__).parents[2]


def fgclip(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    # As a script, like the console's, which does not put the current folder on the path.
    program = [sys.executable, str(ROOT / "fgclip" / "__main__.py")]
    return subprocess.run([*program, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def not_called(monkeypatch):
    monkeypatch.setattr(command_line, "_called_as", None)


def test_every_command_has_its_module():
    names = [one.name for one in COMMANDS]
    assert len(set(names)) == len(names)
    for one in COMMANDS:
        path = ROOT / (one.module.replace(".", "/") + ".py")
        assert path.is_file(), one
        assert f"def {one.function}(" in path.read_text() or f"import {one.function}\n" in path.read_text()
        guard = 'if __name__ == "__main__":\n    run_command('
        assert guard in path.read_text(), f"python -m {one.module} ends otherwise"
        assert f"  {one.name} " in overview()


def test_every_module_that_parses_is_a_command_or_says_so():
    """Whoever adds a command adds its line."""
    apart = {"dataset_scripts/ov_coco.py"}
    known = {one.module.replace(".", "/") + ".py" for one in COMMANDS} | apart
    guarded = {
        path.relative_to(ROOT).as_posix()
        for folder in ("modeling_fgclip", "dataset_scripts", "training", "eval")
        for path in (ROOT / folder).rglob("*.py")
        if 'if __name__ == "__main__":\n    run_command(' in path.read_text()
    }
    assert guarded - known == set()


# Each takes from half a second to some; who asks for help wants neither.
HEAVY = {"accelerate", "datasets", "matplotlib", "pandas", "ray", "sklearn", "spacy", "torch", "transformers"}


def imported_by(*words: str) -> set[str]:
    """The packages that a command has imported when it ends."""
    code = f"""
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted(name.partition(".")[0] for name in sys.modules)))
from fgclip.__main__ import main
main({list(words)})
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return set(found.stdout.splitlines()[-1].split())


def test_the_overview_imports_nothing_of_the_work():
    assert not imported_by("--help") & (HEAVY | {"numpy", "modeling_fgclip", "eval"})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_imports_nothing_heavy(command):
    assert not imported_by(*command.words, "--help") & HEAVY


def test_the_list_of_tasks_imports_nothing_heavy():
    assert not imported_by("eval", "--list-tasks") & HEAVY


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["eval", "--model"], "eval"),
        (["train", "stage2"], "train stage2"),
        (["own_data", "coco"], "own-data"),
        (["convert-model"], "convert-model"),
        (["convert_model"], "convert-model"),
        (["train"], None),
    ],
)
def test_names(words, name):
    found = find(words)
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evla"], "fgclip: error: no command 'evla', did you mean eval? (fgclip --help lists them)"),
        (["--help-me"], "fgclip: error: no command '--help-me' (fgclip --help lists them)"),
        (["train", "stage3"], "no command 'train stage3'; there are train stage1, train stage2, train detection"),
    ],
)
def test_wrong_names(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_group_alone_lists_its_commands(capsys):
    main(["train"])
    assert "train stage1" in capsys.readouterr().out
    main(["train", "--help"])
    assert "train detection" in (out := capsys.readouterr().out)
    assert "own-data" not in out


def test_a_command_called_from_a_folder_with_an_eval_of_its_own(tmp_path):
    for name in ("eval", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the user of this folder won')")
    shown = fgclip("plan", "--stage", "1", "--model", "b16", "--devices", "8", "--device", "H100", cwd=tmp_path)
    assert "memory a device" in shown.stdout, shown.stderr
    wrong = fgclip("plan", "--stage", "1", "--model", "b16", "--devices", "8", "--device", "H99", cwd=tmp_path)
    assert wrong.returncode == 2
    # Before it, torchao warns on import where it is installed.
    assert wrong.stderr.splitlines()[-1].startswith("fgclip plan: error: Received the device 'H99'")
    assert "Traceback" not in wrong.stderr


def parser() -> Parser:
    one = Parser()
    one.add_argument("--num_workers", type=int)
    one.add_argument("--dry-run", action="store_true")
    one.add_argument("--text")
    sub = one.add_subparsers(dest="kind")
    sub.add_parser("table").add_argument("--image-column")
    return one


def test_dashes_and_underscores():
    for words in (["--num-workers", "3", "--dry_run"], ["--num_workers=3", "--dry-run"]):
        options = parser().parse_args([*words, "table", "--image_column", "a_b-c"])
        assert (options.num_workers, options.dry_run, options.image_column) == (3, True, "a_b-c")
    assert parser().parse_args(["--text=--num-workers"]).text == "--num-workers"


@pytest.mark.parametrize("words", [["--num", "3"], ["--num-workers", "many"], ["nothing"], ["table", "--image", "x"]])
def test_mistakes_are_one_line(words, capsys):
    set_called_as("fgclip own-data")
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fgclip own-data")


def test_usage_shows_how_it_was_called():
    set_called_as("fgclip own-data")
    assert parser().format_usage().startswith("usage: fgclip own-data [-h]")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("two\nlines"), 2, "fgclip curate: error: two lines"),
        (FileNotFoundError(2, "No such file", "x"), 2, "fgclip curate: error: [Errno 2] No such file: 'x'"),
        (ImportError("needs spaCy"), 2, "fgclip curate: error: needs spaCy"),
        (SystemExit("error: told\nby itself"), 2, "error: told by itself"),
        (KeyboardInterrupt(), 130, "fgclip curate: stopped, the same command goes on from here"),
    ],
)
def test_ends(error, code, line, capsys):
    def command(arguments):
        raise error

    set_called_as("fgclip curate")
    with pytest.raises(SystemExit) as ended:
        run_command(command, [])
    assert ended.value.code == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def fault(arguments):
        raise KeyError("ours")

    def mistake(arguments):
        raise ValueError("a user's")

    with pytest.raises(KeyError):
        run_command(fault, [])
    monkeypatch.setenv("FGCLIP_TRACEBACK", "1")
    with pytest.raises(ValueError, match="a user's"):
        run_command(mistake, [])


def test_exit_codes_of_commands():
    run_command(lambda arguments: 0, [])
    with pytest.raises(SystemExit) as ended:
        run_command(lambda arguments: 3, [])
    assert ended.value.code == 3


def test_which_commands_go_on():
    assert resumes("fgclip train stage2")
    assert resumes("python -m dataset_scripts.curation")
    assert not resumes("fgclip report")
    assert not resumes(called_as())


def test_ctrl_c_is_one_line(tmp_path):
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # which a job in the background ignores
        "from fgclip.command_line import run_command, set_called_as; set_called_as('fgclip report');"
        "run_command(lambda a: (os.kill(os.getpid(), signal.SIGINT), __import__('time').sleep(9)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGINT, "fgclip report: stopped\n")


def test_what_needs_a_checkout_says_so(monkeypatch, tmp_path, capsys):
    assert importlib.util.find_spec("fgclip") is not None
    assert (_CHECKOUT / "setup.cfg").is_file()
    monkeypatch.setattr("fgclip.__main__._CHECKOUT", tmp_path)
    with pytest.raises(SystemExit):
        main(["publish-demo"])
    assert "runs in a clone of the repository" in capsys.readouterr().err
