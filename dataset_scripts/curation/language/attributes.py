"""FG-OVD's attribute vocabulary, and where its words stand as attributes of a noun in a parsed expression."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from dataset_scripts.attributes import VOCABULARY

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

_NOUN = {"NOUN", "PROPN"}
_TWO_TONE = {"and", "or", "/"}


class Value(NamedTuple):
    """One attribute word: "dark blue" is of the family blue and shade dark."""

    text: str
    families: frozenset[str]
    shade: str  # "light", "dark" or ""
    canonical: str  # "gray" and "grey" share one


@dataclass(frozen=True)
class Category:
    """Color, material, pattern or transparency with its values, and where to look when they are too few."""

    name: str
    values: dict[str, Value]
    fallback: dict[str, str]  # value → category
    only_for: dict[str, frozenset[str]]  # value → nouns


class Slot(NamedTuple):
    """An attribute found in an expression: characters [start, end) of it say `value` of `noun`."""

    start: int
    end: int
    category: str
    value: Value
    noun: str  # lemma, lower case


def compatible(first: Value, second: Value) -> bool:
    """Whether one object may rightly be called both, so that neither can stand in a negative of the other.

    "grey" and "silver" are; "blue" and "dark blue" are; "light blue" and "dark blue" are not (as in FG-OVD).
    """
    if not first.families & second.families:
        return False
    return not (first.shade and second.shade and first.shade != second.shade)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The attribute words by category, with the exceptions (see attributes.yaml)."""

    categories: dict[str, Category]
    not_attributes: re.Pattern[str] | None
    uncolored_nouns: frozenset[str]
    _pattern: re.Pattern[str] = field(repr=False)
    _lookup: dict[str, tuple[str, Value]] = field(repr=False)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Vocabulary:
        """Read a vocabulary file.

        Raises:
            ValueError: the file does not have the form of attributes.yaml.
        """
        path = Path(path or VOCABULARY)
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError(f"{path}: expected a mapping of categories as in {VOCABULARY.name}, got {raw!r}.")
        exceptions = raw.pop("not_attributes", [])
        uncolored = frozenset(raw.pop("uncolored_nouns", []))
        # categories of words alone are for recognizing
        replaced = {
            name: entry for name, entry in raw.items() if not (isinstance(entry, dict) and {*entry} == {"words"})
        }
        categories = {name: _category(name, entry, path) for name, entry in replaced.items()}
        for category in categories.values():
            unknown = set(category.fallback.values()) - set(categories)
            if unknown:
                raise ValueError(
                    f"{path}: {category.name!r} falls back on {sorted(unknown)}, which are no categories."
                )
        lookup = {text: (c.name, value) for c in categories.values() for text, value in c.values.items()}
        words = sorted(lookup, key=len, reverse=True)
        alternatives = "|".join(re.escape(word).replace(r"\ ", r"[\s-]+").replace(r"\-", r"\s?-\s?") for word in words)
        return cls(
            categories=categories,
            not_attributes=re.compile(rf"\b(?:{'|'.join(exceptions)})\b", re.IGNORECASE) if exceptions else None,
            uncolored_nouns=uncolored,
            _pattern=re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])", re.IGNORECASE),
            _lookup=lookup,
        )

    def find(self, text: str) -> list[tuple[int, int, str, Value]]:
        """Every mention of a value in `text`: start, end, category, value; whatever it means there."""
        mentions = []
        for match in self._pattern.finditer(text):
            written = re.sub(r"\s?-\s?", "-", re.sub(r"\s+", " ", match.group().casefold()))
            entry = self._lookup.get(written) or self._lookup.get(written.replace("-", " "))
            if entry is not None:
                mentions.append((match.start(), match.end(), *entry))
        return mentions

    def slots(self, doc: Doc) -> list[Slot]:
        """The mentions in `doc` that are attributes of a noun of it and that can be swapped."""
        text = doc.text
        excluded = [m.span() for m in self.not_attributes.finditer(text)] if self.not_attributes else []
        slots = []
        for start, end, category, value in self.find(text):
            if any(start < stop and begin < end for begin, stop in excluded):
                continue
            span = doc.char_span(start, end, alignment_mode="expand")
            noun = attributed_noun(span) if span is not None else None
            if noun is None:
                continue
            # "black and red" names no object; "a green glass" does, though glass may also be what a thing is made of
            own = {kind for *_, kind, _ in self.find(noun.text)}
            if "color" in own or (own and noun.pos_ not in _NOUN):
                continue
            lemma = noun.lemma_.casefold()
            follows = noun.i >= span.end  # "a white woman", but not "a woman in white"
            if category == "color" and follows and lemma in self.uncolored_nouns:
                continue
            slots.append(Slot(start, end, category, value, lemma))
        return slots


def attributed_noun(span: Span) -> Token | None:
    """The noun that `span` describes: "red" → jacket in "a red jacket", "made of wood" → what is made of it.

    None where the words are themselves the object ("a glass") or describe nothing in the text.
    """
    doc, last = span.doc, span[-1]
    noun = _following_noun(doc, span.end) or _last_word(doc, span.end)
    if noun is not None:
        return noun
    head = span.root
    if head.dep_ == "conj" and head.head.i < span.start:  # "a jacket in red and white"
        head = head.head
    if head.dep_ == "pobj" and head.head.lower_ in {"of", "in", "from"}:  # "a table made of wood", "a man in red"
        governor = head.head.head
        if governor.pos_ == "VERB" or governor.lower_ == "made":
            governor = governor.head if governor.dep_ in {"acl", "relcl"} else governor
        return governor if governor.pos_ in _NOUN and governor.i < span.start else None
    if last.dep_ in {"acomp", "oprd"}:  # "a vase that is transparent"
        verb = last.head
        if verb.dep_ == "relcl":
            return verb.head if verb.head.pos_ in _NOUN else None
        subjects = [child for child in verb.children if child.dep_ == "nsubj" and child.pos_ in _NOUN]
        return subjects[0] if subjects else None
    return None


def _following_noun(doc: Doc, start: int) -> Token | None:
    """The last noun of the run of adjectives and nouns that begins at token `start`, if there is one.

    Read from the words' order, not the tree: in short phrases the small parser's tags are surer than its arcs.
    """
    noun = None
    for token in doc[start:]:
        hyphened = (
            token.text == "-" or token.nbor(-1).text == "-" or (token.i + 1 < len(doc) and token.nbor().text == "-")
        )
        if token.pos_ in _NOUN:
            noun = token
        elif not hyphened and (
            noun is not None
            or not (token.pos_ in {"ADJ", "NUM"} or token.lower_ in _TWO_TONE or token.tag_ in {"VBN", "VBG"})
        ):
            break
    return noun


def _last_word(doc: Doc, start: int) -> Token | None:
    """The word that ends a phrase of modifiers alone, whatever the tagger takes it for ("a pink frisbee": a verb)."""
    rest = [token for token in doc[start:] if not token.is_punct]
    if not rest or not rest[-1].is_alpha:
        return None
    before = all(token.pos_ in {"ADJ", "NUM", "VERB"} or token.lower_ in _TWO_TONE for token in rest[:-1])
    return rest[-1] if before and rest[-1].pos_ not in {"ADP", "AUX", "DET", "NUM", "PRON"} else None


def _category(name: str, entry: object, path: Path) -> Category:
    """One category of the file, shades and spellings resolved."""
    if not isinstance(entry, dict) or not isinstance(entry.get("values"), dict):
        raise ValueError(f"{path}: category {name!r} needs `values: {{word: [family, …]}}`, got {entry!r}.")
    unknown = set(entry) - {"values", "words", "shades", "same_as", "fallback", "only_for"}
    if unknown:
        raise ValueError(f"{path}: category {name!r} has the unknown keys {sorted(unknown)}.")
    same_as = entry.get("same_as", {})
    written = {str(word): (frozenset(families), "") for word, families in entry["values"].items()}
    for base in entry.get("shades", []):
        for shade in ("light", "dark"):
            written[f"{shade} {base}"] = (frozenset([base]), shade)
            if base == "grey":
                written[f"{shade} gray"] = (frozenset([base]), shade)
    values = {word: Value(word, fam, shade, same_as.get(word, word)) for word, (fam, shade) in written.items()}
    only_for = {word: frozenset(nouns) for word, nouns in entry.get("only_for", {}).items()}
    return Category(name, values, entry.get("fallback", {}), only_for)


@lru_cache(maxsize=4)
def load_vocabulary(path: str | None = None) -> Vocabulary:
    """:meth:`Vocabulary.load`, once a process."""
    return Vocabulary.load(path)


def vocabulary_digest(path: str | None = None) -> str:
    """Names the contents of a vocabulary file."""
    return hashlib.sha256(Path(path or VOCABULARY).read_bytes()).hexdigest()[:12]
