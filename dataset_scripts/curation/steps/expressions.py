"""Step 2: the referring expressions of a caption, after Kosmos-2's GRIT (Peng et al. 2024, section 2.1; paper, 3.2).

A noun chunk is the short expression ("a pink cutting mat"). The long one is what the dependency tree hangs on its
noun, without the noun's own conjuncts ("a pink cutting mat that has a grid pattern").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from ..language.pipeline import DEFAULT_MODEL, load_language
from ..language.text import clean, join_hyphens, normalized
from .step import Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spacy.tokens import Doc, Span, Token

WORDS = Path(__file__).with_name("expressions_words.yaml")
# Children of the noun that belong to another expression or to the sentence around it.
_NOT_EXPANDED = {"conj", "cc", "preconj", "appos", "advcl", "punct", "parataxis", "dep", "nsubj", "nsubjpass", "expl"}
_CLAUSE = {"relcl", "acl"}


class Expression(NamedTuple):
    """A referring expression, short and long, without commas (paper, 3.2)."""

    short: str
    long: str


@dataclass
class ExpressionSettings:
    """What counts as a referring expression.

    `drop_contained` keeps only expressions that stand in no longer one, as GRIT does; FineHARD keeps both. `texts`
    are the record's fields that are parsed.
    """

    model: str = DEFAULT_MODEL
    max_words: int = 40
    max_expressions: int = 32
    drop_contained: bool = False
    texts: tuple[str, ...] = ("caption", "short_captions")

    def __post_init__(self) -> None:
        self.texts = tuple(self.texts)
        if not self.texts or set(self.texts) - {"caption", "short_captions"}:
            raise ValueError(
                f"expressions.texts is {list(self.texts)}; it needs at least one of caption and short_captions."
            )
        for name in ("max_words", "max_expressions"):
            if getattr(self, name) < 1:
                raise ValueError(f"expressions.{name} is {getattr(self, name)}; it must be 1 or more.")


class Expressions(Step):
    """Column `expressions` (a list of {short, long}) from the captions of a batch."""

    Settings = ExpressionSettings
    reads = (("caption", "short_captions"),)
    writes = ("expressions",)

    def __init__(self, settings: ExpressionSettings) -> None:
        super().__init__(settings)
        self.nlp = load_language(settings.model)

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        texts, owner = [], []
        for field in self.settings.texts:
            for row, value in enumerate(batch[field]):
                for text in value if isinstance(value, list) else [value]:
                    if text and text.strip():
                        texts.append(join_hyphens(" ".join(text.split())))
                        owner.append(row)
        docs: list[list[Doc]] = [[] for _ in batch["source_id"]]
        for row, doc in zip(owner, self.nlp.pipe(texts, batch_size=64), strict=True):
            docs[row].append(doc)
        found = [extract(group, self.settings) for group in docs]
        failures = [
            [*old, *([] if new else ["expressions: none found" if group else "expressions: no caption"])]
            for old, new, group in zip(batch["failures"], found, docs, strict=True)
        ]
        column = [[{"short": e.short, "long": e.long} for e in row] for row in found]
        return {**batch, "expressions": column, "failures": failures}


def extract(docs: Iterable[Doc], settings: ExpressionSettings | None = None) -> list[Expression]:
    """The referring expressions of one image's parsed captions, in order, each once."""
    settings = settings or ExpressionSettings()
    spans: list[tuple[str, int, int, Expression]] = []
    seen: set[str] = set()
    for number, doc in enumerate(docs):
        inside = -1  # up to this token a quantity noun has taken the text already
        for chunk in doc.noun_chunks:
            if chunk.root.i <= inside or not _names_an_object(chunk):
                continue
            short = _with_quantity(chunk)
            inside = max(inside, short.end - 1)
            first, last, long = _expand(chunk.root, short, settings.max_words)
            expression = Expression(clean(join_hyphens(short.text)), long)
            key = normalized(expression.short)
            if key and key not in seen:
                seen.add(key)
                spans.append((f"{number}", first, last, expression))
    if settings.drop_contained:
        spans = [
            (doc, first, last, e)
            for doc, first, last, e in spans
            if not any(doc == d and f <= first and last <= t and (f, t) != (first, last) for d, f, t, _ in spans)
        ]
    return [expression for *_, expression in spans[: settings.max_expressions]]


def _names_an_object(chunk: Span) -> bool:
    """False for pronouns, abstract nouns, places in the picture and talk about the picture."""
    root, words = chunk.root, _words()
    if root.pos_ not in {"NOUN", "PROPN"} or not any(c.isalpha() for c in root.text):
        return False
    lemma = root.lemma_.casefold()
    if lemma in words["quantity"] and _of_object(root) is not None:
        return True
    if lemma in words["image_talk"]:
        # "a picture of a girl" on a wall is an object, "the picture shows" and "picture of a girl" are not
        first = chunk[0].lower_
        return (
            first in {"a", "an", "two", "three"} and root.dep_ in {"pobj", "dobj", "conj"} and root.head.lower_ != "in"
        )
    if lemma in words["relational"]:
        return any(token.dep_ in {"amod", "compound"} for token in chunk)
    return lemma not in words["abstract"]


def _of_object(noun: Token) -> Token | None:
    """The noun after "of": people in "a group of people"."""
    for child in noun.children:
        if child.dep_ == "prep" and child.lower_ == "of":
            return next((t for t in child.children if t.dep_ == "pobj" and t.pos_ in {"NOUN", "PROPN"}), None)
    return None


def _with_quantity(chunk: Span) -> Span:
    """The chunk, and what it counts: "a group" → "a group of people"."""
    if chunk.root.lemma_.casefold() not in _words()["quantity"]:
        return chunk
    counted = _of_object(chunk.root)
    return chunk.doc[chunk.start : counted.i + 1] if counted is not None and counted.i >= chunk.end else chunk


def _expand(root: Token, short: Span, max_words: int) -> tuple[int, int, str]:
    """First and last token and the text of the full expression; clauses are left out where it would be too long."""
    for skipped in (_NOT_EXPANDED, _NOT_EXPANDED | _CLAUSE):
        indices = set(range(short.start, short.end))
        for child in root.children:
            if child.dep_ not in skipped and not _is_clausal_verb(root, child):
                indices.update(token.i for token in child.subtree)
        ordered = sorted(indices)
        while ordered and not (root.doc[ordered[-1]].is_alpha or root.doc[ordered[-1]].like_num):
            ordered.pop()
        if len(ordered) <= max_words:
            break
    else:
        return short.start, short.end - 1, clean(join_hyphens(short.text))
    text = clean(join_hyphens("".join(root.doc[i].text_with_ws for i in ordered)))
    return ordered[0], ordered[-1], text


def _is_clausal_verb(root: Token, child: Token) -> bool:
    """A noun taken for the root of a sentence has the sentence's verb below it; that is not a modifier."""
    return root.dep_ == "ROOT" and child.dep_ in {"ccomp", "xcomp", "aux", "auxpass"}


@lru_cache(maxsize=1)
def _words() -> dict[str, frozenset[str]]:
    return {name: frozenset(words) for name, words in yaml.safe_load(WORDS.read_text(encoding="utf-8")).items()}
