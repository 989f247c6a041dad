"""``fgclip COMMAND …`` and ``python -m fgclip COMMAND …``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from fgclip.command_line import run_command, set_called_as, stop
from fgclip.commands import COMMANDS, Command
from fgclip.heap import settle_heap

_CHECKOUT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    if arguments is None:
        settle_heap()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
    elif words[0] == "--version":
        from importlib.metadata import version

        print(version("fgclip"))
    elif command := find(words):
        start(command, words[len(command.words) :])
    elif inside := [one for one in COMMANDS if one.words[0] == normalized(words[0])]:
        if words[1:2] in ([], ["-h"], ["--help"]):
            print(overview(inside))
        else:
            stop(f"fgclip: error: no command {' '.join(words[:2])!r}; {listing(inside)}")
    else:
        stop(f"fgclip: error: no command {words[0]!r}{guess(words[0])} (fgclip --help lists them)")


def normalized(word: str) -> str:
    return word.replace("_", "-")


def find(words: Sequence[str]) -> Command | None:
    """The command that the first word, or the first two, name."""
    given = tuple(map(normalized, words))
    return next((one for one in COMMANDS if given[: len(one.words)] == one.words), None)


def guess(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(normalized(word), [one.words[0] for one in COMMANDS], n=1)
    return f", did you mean {close[0]}?" if close else ""


def start(command: Command, arguments: list[str]) -> None:
    """Imports the command's module, which may take seconds, and runs it."""
    if command.checkout:
        if not (_CHECKOUT / command.module.split(".")[0]).is_dir():
            stop(f"fgclip: error: {command.name} runs in a clone of the repository; it is not part of the package")
        sys.path.append(str(_CHECKOUT))
    set_called_as(f"fgclip {command.name}")

    def entry(given: Sequence[str]) -> int | None:
        return getattr(importlib.import_module(command.module), command.function)(given)

    run_command(entry, arguments)


def listing(commands: Sequence[Command]) -> str:
    return "there are " + ", ".join(one.name for one in commands)


def overview(commands: Sequence[Command] = COMMANDS) -> str:
    """All commands by group, a line each."""
    lines = ["usage: fgclip COMMAND [OPTIONS]     fgclip COMMAND --help", ""]
    for group in dict.fromkeys(one.group for one in commands):
        lines.append(f"{group}:")
        lines += [f"  {one.name:16} {one.about}" for one in commands if one.group == group]
        lines.append("")
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    main()
