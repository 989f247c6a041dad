"""Which attributes a hard negative changed, and the object of a caption; the examples are from FG-OVD."""

from __future__ import annotations

import pytest

from eval.attributes import changed_attributes, object_class


@pytest.mark.parametrize(
    ("positive", "negative", "kinds"),
    [
        ("A light grey plastic pipe.", "A dark pink plastic pipe.", ["color"]),
        ("A light grey plastic pipe.", "A light grey text pipe.", ["material"]),  # what was lost decides
        ("A light grey plastic pipe.", "A light pink fabric pipe.", ["color", "material"]),
        ("A grey metal fan.", "A dark grey metal fan.", ["color"]),  # nothing was lost
        ("A blue-colored clock.", "A red-colored clock.", ["color"]),
        ("A napkin with orange and lightgrey color.", "A napkin with orange and pink color.", ["color"]),
        ("A basket with a woven pattern.", "A basket with a floral pattern.", ["pattern"]),
        ("A transparent glass cup.", "A opaque glass cup.", ["transparency"]),
        ("A medium-sized dog.", "A tiny dog.", ["size"]),
        ("A red dog.", "A red cat.", ["other"]),
    ],
)
def test_changed_attributes(positive, negative, kinds):
    assert changed_attributes(positive, negative) == kinds


@pytest.mark.parametrize(
    ("caption", "name"),
    [
        ("A black plastic telephone with red buttons and a dark grey bezel.", "telephone"),
        ("A remote control made of grey plastic.", "remote control"),
        ("A white, fabric napkin.", "napkin"),
        ("A glass and plastic television set with a white bottom.", "television set"),
        ("A pair of scissors with a light grey and dark brown color.", "scissors"),
        ("A light grey handled knife with a black plastic handle.", "knife"),
        ("A white-colored clock.", "clock"),
        ("A newspaper made of paper.", "newspaper"),
        ("A dark grey glass (drink container) made of glass.", "glass"),
        ("A red striped leather back of a bench.", "back"),  # the documented limit of the rule
        ("", "other"),
    ],
)
def test_object_class(caption, name):
    assert object_class(caption) == name
