"""What was replaced between a caption and its hard negative: colour, material, pattern, transparency, size, position."""

from __future__ import annotations

import re
from collections import Counter

# Attribute values of FG-OVD (Bianchi et al., 2024), which takes them from PACO (Ramanathan et al., 2023).
_COLOURS = "black white grey gray brown red orange yellow green blue purple pink beige tan gold golden silver turquoise violet cyan magenta maroon navy teal colored coloured dark-colored light-colored"
_MODIFIERS = "light dark pale bright deep"
_MATERIALS = "ceramic crochet fabric glass leather metal metallic paper plastic rattan stone velvet wood wooden wool brownwood rubber concrete brick steel iron copper bronze brass newspaper"
_PATTERNS = "plain checkered chequered dotted floral logo perforated striped studded text woven textured patterned zigzag gradient tiled stripes dots checks solid speckled hatched"
_TRANSPARENCY = "opaque translucent transparent"
_SIZES = "tiny small medium-sized medium big large huge tall short long wide narrow"
_POSITIONS = "left right top bottom upper lower middle center centre above below"

KINDS: dict[str, str] = {
    word: kind
    for kind, words in {
        "colour": f"{_COLOURS} {_MODIFIERS}",
        "material": _MATERIALS,
        "pattern": _PATTERNS,
        "transparency": _TRANSPARENCY,
        "size": _SIZES,
        "position": _POSITIONS,
    }.items()
    for word in words.split()
}
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def replaced_attribute(positive: str, negative: str) -> str:
    """Which kind of attribute tells two captions apart.

    Returns:
        The kind when all replaced attribute words are of one kind; "several" when they are of more than one; "other"
        when no replaced word is in the vocabulary (an object, a verb).
    """
    first, second = Counter(_WORD.findall(positive.lower())), Counter(_WORD.findall(negative.lower()))
    kinds = {KINDS[word] for word in ((first - second) + (second - first)) if word in KINDS}
    if not kinds:
        return "other"
    return kinds.pop() if len(kinds) == 1 else "several"
