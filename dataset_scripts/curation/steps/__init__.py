"""The steps in the order in which they run. A new step is a file here (see :mod:`.step`) and a line below."""

from __future__ import annotations

import importlib

from .step import Step

STEPS = {
    "recaption": ".recaption:Recaption",
    "expressions": ".expressions:Expressions",
    "grounding": ".grounding:Grounding",
    "negatives": ".negatives:Negatives",
    "quality": ".quality:Quality",
}


def step_class(name: str) -> type[Step]:
    """The class of a step; imports only that step's module."""
    module, _, attribute = STEPS[name].partition(":")
    return getattr(importlib.import_module(module, __name__), attribute)
