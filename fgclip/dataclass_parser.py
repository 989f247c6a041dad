"""Options from dataclasses, by transformers; apart from `command_line`, which imports nothing heavy."""

from __future__ import annotations

from transformers import HfArgumentParser

from fgclip.command_line import Options


class DataclassParser(Options, HfArgumentParser):
    """transformers', for a command."""
