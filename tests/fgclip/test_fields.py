"""Dataclasses from what users write."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from fgclip.command_line import Parser
from fgclip.fields import add_options, build, typed


@dataclass
class Inner:
    rate: float = 1.0


@dataclass
class Settings:
    count: int = 3
    rate: float | None = None
    name: str = "a"
    on: bool = False
    off: bool = True
    place: Path = Path("x")
    kind: Literal["red", "blue"] = "red"
    parts: tuple[str, ...] = ()
    sizes: list[int] = field(default_factory=list)
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"count": "5"}, Settings(count=5)),
        ({"rate": 2}, Settings(rate=2.0)),
        ({"rate": None}, Settings(rate=None)),
        ({"rate": "1e-3"}, Settings(rate=1e-3)),
        ({"name": "7"}, Settings(name="7")),
        ({"on": "True", "off": "false"}, Settings(on=True, off=False)),
        ({"place": "a/b"}, Settings(place=Path("a/b"))),
        ({"kind": "blue"}, Settings(kind="blue")),
        ({"parts": "x,y,"}, Settings(parts=("x", "y"))),
        ({"parts": ["x"]}, Settings(parts=("x",))),
        ({"sizes": "1,2"}, Settings(sizes=[1, 2])),
        ({"inner": {"rate": 3}}, Settings(inner=Inner(3.0))),
    ],
)
def test_values_become_what_fields_hold(values, expected):
    assert build(Settings, values, "settings") == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, r"^settings has no cuont; there are count, rate"),
        ({"count": "three"}, r"^settings.count is 'three'; it must be int\.$"),
        ({"count": True}, "it must be int"),
        ({"count": 2.5}, "it must be int"),
        ({"rate": "fast"}, "it must be float or nothing"),
        ({"on": "maybe"}, "it must be true or false"),
        ({"name": 7}, "it must be str"),
        ({"kind": "green"}, "it must be one of red, blue"),
        ({"sizes": "1,b"}, r"settings.sizes is 'b'; it must be int"),
        ({"inner": {"speed": 1}}, "settings.inner has no speed; there are rate"),
        ([], "must be a mapping"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        build(Settings, values, "settings")


def test_every_type_of_the_command_lines_is_read():
    assert typed("none", str | None, "x") == "none"
    assert typed("3", int | None, "x") == 3


@dataclass
class Options:
    model: str = field(metadata={"help": "100% needed"})
    rate: float = field(default=0.5, metadata={"help": "A rate."})
    steps: int | None = None
    tasks: list[str] = field(default_factory=list)
    kind: str = field(default="a", metadata={"choices": ["a", "b"]})
    on: bool = False


@dataclass
class Changed(Options):
    rate: float = 0.7


def options(*words: str) -> Changed:
    parser = Parser(prog="x")
    add_options(parser, Changed, "settings")
    return Changed(**vars(parser.parse_args(words)))


def test_options_of_a_dataclass(capsys):
    assert options("--model", "m") == Changed("m")
    given = options("--model", "m", "--rate", "1", "--steps=4", "--tasks", "a", "b", "--kind", "b", "--on")
    assert given == Changed("m", 1.0, 4, ["a", "b"], "b", True)
    assert not options("--model", "m", "--on", "false").on
    for words, message in (
        ([], "required: --model"),
        (["--model", "m", "--steps", "few"], "--steps is 'few'; it must be int"),
        (["--model", "m", "--kind", "c"], "invalid choice: 'c'"),
    ):
        with pytest.raises(SystemExit):
            options(*words)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        options("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "100% needed" in text
    assert "A rate. (default: 0.7)" in text  # the base's words, the subclass's default
