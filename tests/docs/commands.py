"""Reads a command line as the program that it names would, and runs nothing."""

from __future__ import annotations

import argparse
import importlib.util
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from transformers import HfArgumentParser

from fgclip.__main__ import main as fgclip

from .blocks import ROOT

# Programs of others, whose options nobody checks here.
OTHERS = {"docker", "pre-commit", "tensorboard"}
# Modules of others.
_MODULES = {"pip", "pytest", "venv"}
_VARIABLE = re.compile(r"\$\w+")  # of a loop
_SETTING = re.compile(r"[A-Z_]+=\S*")
# What a machine without a GPU needs so that transformers takes a training's settings.
WITHOUT_GPU = ("--use_cpu", "--tf32", "False")


class Parsed(BaseException):
    """The command has understood its options; not an Exception, so that none of its handlers takes it."""


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Every command ends where it has read its options."""
    known, given, dataclasses = (
        argparse.ArgumentParser.parse_known_args,
        argparse.ArgumentParser.parse_args,
        HfArgumentParser.parse_args_into_dataclasses,
    )
    inside: list[bool] = []

    def last(original, top):
        def parse(self, *arguments, **settings):
            outermost = not inside
            inside.append(True)
            try:
                result = original(self, *arguments, **settings)
            finally:
                inside.pop()
            # A parser without help takes a first look, and another parser follows.
            if outermost and (top or self.add_help):
                raise Parsed
            return result

        return parse

    argparse.ArgumentParser.parse_known_args = last(known, top=False)
    argparse.ArgumentParser.parse_args = last(given, top=True)
    HfArgumentParser.parse_args_into_dataclasses = last(dataclasses, top=True)
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_known_args = known
        argparse.ArgumentParser.parse_args = given
        HfArgumentParser.parse_args_into_dataclasses = dataclasses


def command_lines(code: str) -> list[list[str]]:
    """The words of each command of a shell block, without comments, redirections, loops and settings of the environment."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";|&"):
                found.append(command)
                command = []
            elif word == "do" or (_SETTING.fullmatch(word) and not command):
                continue
            else:
                command.append(_VARIABLE.sub("1", word))
    cut = [words[: next((i for i, word in enumerate(words) if set(word) <= set("<>")), None)] for words in found]
    return [words for words in cut if words and words[0] not in ("for", "done")]


def check(words: list[str]) -> None:
    """Raises AssertionError or SystemExit where the program would not understand the words."""
    program, rest = Path(words[0]).name, words[1:]
    if program == "fgclip":
        _understood(lambda: fgclip([*rest, *(WITHOUT_GPU if rest[0] == "train" else ())]), words)
    elif program == "accelerate":
        assert rest[0] == "launch", words
        _check_launch(rest[1:])
    elif program == "torchrun":
        from torch.distributed.run import get_args_parser

        launch = get_args_parser().parse_args(rest)
        _check_script(launch.training_script, launch.training_script_args, launch.module)
    elif program in ("python", "python3"):
        if rest[0] == "-m":
            if rest[1] not in _MODULES:
                _check_script(rest[1], rest[2:], module=True)
            elif rest[1] == "pip":
                _check_install(rest[2:])
        else:
            _check_script(rest[0], rest[1:], module=False)
    elif program == "pip":
        _check_install(rest)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets), words
    elif words[0].startswith(".ci/"):
        assert (ROOT / words[0]).is_file(), words
    else:
        assert program in OTHERS, f"no test knows the program of {shlex.join(words)}"


def _understood(call, words: list[str]) -> None:
    with nothing_runs():
        try:
            call()
        except Parsed:
            return
        except SystemExit as end:
            if end.code in (0, None) and {"-h", "--help", "--help-all"} & set(words):
                return
            raise AssertionError(f"{shlex.join(words)} ends with {end.code}") from None
    raise AssertionError(f"{shlex.join(words)} ended without reading its options")


def _check_script(script: str, arguments: list[str], module: bool) -> None:
    if script.startswith("spaces") and importlib.util.find_spec("gradio") is None and script.endswith("app.py"):
        assert (ROOT / script).is_file()
        return
    trains = re.match(r"training[./](stage\d|detection|llava)", script)
    given = [*arguments, *(WITHOUT_GPU if trains else ())]
    before = sys.argv

    def call() -> None:
        sys.argv = [script, *given]
        try:
            if module:
                runpy.run_module(script, run_name="__main__", alter_sys=False)
            else:
                runpy.run_path(str(ROOT / script), run_name="__main__")
        finally:
            sys.argv = before

    _understood(call, [script, *given])


def _check_launch(words: list[str]) -> None:
    """By the launcher and by what it starts: files are there; processes and precision of the configuration agree."""
    launch = launch_command_parser().parse_args(words)
    if launch.config_file:
        config = load_config_from_file(str(ROOT / launch.config_file))
        processes = launch.num_processes or config.num_processes
        assert processes % config.num_machines == 0, words
        several = config.num_machines > 1
        assert (launch.machine_rank is not None and launch.main_process_ip is not None) == several, words
    _check_script(launch.training_script, launch.training_script_args, launch.module)


def _check_install(words: list[str]) -> None:
    assert words[0] == "install", words
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file(), words
    if "-e" in words:
        target = words[words.index("-e") + 1]
        assert target.startswith("."), words
        parsed = ConfigParser()
        parsed.read(ROOT / "setup.cfg")
        extras = re.search(r"\[(.*)\]", target)
        known = {extra.replace("_", "-") for extra in parsed["options.extras_require"]}
        assert {one.strip().replace("_", "-") for one in extras[1].split(",")} <= known if extras else True, words
