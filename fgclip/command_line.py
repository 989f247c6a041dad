"""What all commands share: how they are called, dashes or underscores, and how they end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fgclip.commands import resumes
from fgclip.heap import settle_heap

USER_ERROR, INTERRUPTED = 2, 130

_called_as: str | None = None


def set_called_as(name: str) -> None:
    """Notes what the user typed before the options, such as `fgclip eval`."""
    global _called_as
    _called_as = name


def called_as() -> str:
    """What a user types to run this command again."""
    if _called_as is not None:
        return _called_as
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return Path(sys.argv[0]).name


class Options:
    """Mixed into a parser: `--num-workers` is `--num_workers`, no abbreviations, mistakes in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {"prog": called_as(), "allow_abbrev": False} | kwargs
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        return super().parse_known_args([*map(self.spelled, words[:end]), *words[end:]], namespace)

    def spelled(self, word: str) -> str:
        """An option as the parser has it."""
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        options = {option.replace("_", "-"): option for option in self._option_string_actions}
        return options.get(name.replace("_", "-"), name) + equals + value

    def error(self, message: str) -> NoReturn:
        stop(f"{self.prog}: error: {one_line(message)} (--help lists the options)")


class Parser(Options, argparse.ArgumentParser):
    """argparse's, for a command."""


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def stop(line: str, code: int = USER_ERROR) -> NoReturn:
    """Ends the process with one line on stderr."""
    print(line, file=sys.stderr)
    sys.exit(code)


def run_command(main: Callable[..., Any], arguments: Sequence[str] | None = None) -> None:
    """Runs a command; a user's mistake and Ctrl-C end it in one line.

    FGCLIP_TRACEBACK=1 shows where an error came from.

    Args:
        main: takes the arguments; what it returns is the exit code if it is a number.
        arguments: by default those of the process.
    """
    if arguments is None:
        settle_heap()
    if os.environ.get("FGCLIP_TRACEBACK") == "1":
        result = main(arguments)
    else:
        try:
            result = main(arguments)
        # What a wrong file, name, option or setting raises here and in the libraries, a missing extra, a loss that is not
        # finite.
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            if isinstance(error, BrokenPipeError):  # `| head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(0)
            stop(f"{called_as()}: error: {one_line(error) or type(error).__name__}")
        except KeyboardInterrupt:
            goes_on = ", the same command goes on from here" if resumes(called_as()) else ""
            stop(f"{called_as()}: stopped{goes_on}", INTERRUPTED)
        except SystemExit as end:
            if isinstance(end.code, str):
                stop(one_line(end.code))
            raise
    if isinstance(result, int) and result:
        sys.exit(result)
