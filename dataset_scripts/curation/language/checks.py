"""What a good hard negative is: clean, new, of the same objects, with another attribute. Asked of every negative."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .text import is_clean, normalized

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spacy.language import Language
    from spacy.tokens import Doc, Token

    from .attributes import Vocabulary

# In the order in which they are asked: the reason in reports, and what a model is told that wrote such a negative.
REASONS = {
    "empty": "it is empty",
    "not clean": "it has a comma, a semicolon or a line break",
    "markup": "it has quotes, numbers or other marks of a list",
    "equals the positive": "it is the description itself",
    "duplicate": "it is already given",
    "length": "it is too long",
    "object changed": "it does not keep every object and its name",
    "object added": "it names another object",
    "no attribute changed": "it changes no attribute",
}
_MARKUP = re.compile(r"""[{}\[\]<>*_|`"“”#\\:]|^\s*\d+\s*[.)]|^\s*[-–•]\s""")
_MODIFIER = {"amod", "compound", "nmod", "nummod", "advmod", "acomp", "conj", "poss", "npadvmod", "acl", "oprd", "det"}
_NOUN = {"NOUN", "PROPN"}
_NO_OBJECT = {"ADP", "AUX", "CCONJ", "DET", "NUM", "PRON"}
_FUNCTION_WORDS = {"a", "an", "the", "some", "and", "or", "of", "in", "on", "with", "is", "are", "-"}
_MAX_GROWTH = 8  # words that a negative may have more than its positive


class NegativeChecker:
    """Sorts the negatives of one positive into good ones and reasons.

    The object nouns (roots of noun chunks that are no attribute words) of the positive must all be in the negative,
    the first of them as its first, and none may be new (spaCy). At least one changed word must be an attribute: of the
    vocabulary, or a modifier of a noun.
    """

    def __init__(self, nlp: Language, vocabulary: Vocabulary) -> None:
        self.nlp = nlp
        self.vocabulary = vocabulary

    def reasons(self, positive: str, negatives: Sequence[str], doc: Doc | None = None) -> list[str | None]:
        """For each negative None, or why it is not one (:data:`REASONS`)."""
        return self.reasons_of_many([positive], [negatives], [doc] if doc is not None else None)[0]

    def reasons_of_many(
        self, positives: Sequence[str], negatives: Sequence[Sequence[str]], docs: Sequence[Doc] | None = None
    ) -> list[list[str | None]]:
        """:meth:`reasons` for many positives; parsing is batched."""
        docs = docs if docs is not None else list(self.nlp.pipe(positives, batch_size=256))
        result = [_surface_reasons(p, group) for p, group in zip(positives, negatives, strict=True)]
        open_ = [(i, j) for i, group in enumerate(result) for j, reason in enumerate(group) if reason is None]
        # the same text comes up under many positives; it is parsed once
        texts = list(dict.fromkeys(negatives[i][j] for i, j in open_))
        parsed = dict(zip(texts, self.nlp.pipe(texts, batch_size=256), strict=True))
        for i, j in open_:
            result[i][j] = self._parsed_reason(docs[i], parsed[negatives[i][j]])
        return result

    def _parsed_reason(self, positive: Doc, negative: Doc) -> str | None:
        wanted, found = self._objects(positive), self._objects(negative)
        if not wanted or not found:
            return "object changed"
        # written as they were: "in Swiss alp" is a cut-off answer
        if not {noun.lower_ for noun in wanted} <= {token.lower_ for token in negative}:
            return "object changed"
        lemmas = [_lemma(noun) for noun in found]
        if lemmas[0] not in _lemmas(positive) or _lemma(wanted[0]) not in lemmas:
            return "object changed"
        if any(lemma not in _lemmas(positive) for lemma in lemmas):
            return "object added"
        return None if self._attribute_changed(positive, negative) else "no attribute changed"

    def _attribute_changed(self, positive: Doc, negative: Doc) -> bool:
        before = sorted(value.canonical for *_, value in self.vocabulary.find(positive.text))
        after = sorted(value.canonical for *_, value in self.vocabulary.find(negative.text))
        if after and before != after:
            return True
        known = _lemmas(positive) | _FUNCTION_WORDS
        changed = [t for t in negative if t.lower_ not in known and t.lemma_.casefold() not in known and t.is_alpha]
        return any(t.dep_ in _MODIFIER or t.pos_ == "ADJ" for t in changed)

    def _objects(self, doc: Doc) -> list[Token]:
        """The nouns that name objects, in order: neither "wood" in "made of wood" nor "red" in "in red"."""
        attribute_tokens: set[int] = set()
        for start, end, *_ in self.vocabulary.find(doc.text):
            span = doc.char_span(start, end, alignment_mode="expand")
            if span is not None:
                attribute_tokens.update(range(span.start, span.end))
        roots = [chunk.root for chunk in doc.noun_chunks if chunk.root.pos_ in _NOUN]
        objects = [t for t in roots if t.i not in attribute_tokens]
        if not objects:  # the small parser finds no chunk in some short phrases, or the object is "a glass"
            nouns = [t for t in doc if t.pos_ in _NOUN and t.i not in attribute_tokens]
            # "khaki shorts" is to the tagger something khaki that shorts, and "top" of "pink top" no noun
            last = [t for t in doc if t.is_alpha][-1:]
            named = [t for t in last if t.i not in attribute_tokens and t.pos_ not in _NO_OBJECT]
            objects = nouns[-1:] or named or roots
        return objects


def _surface_reasons(positive: str, negatives: Iterable[str]) -> list[str | None]:
    """What can be seen without a parser."""
    own, words = normalized(positive), len(positive.split())
    seen: set[str] = set()
    reasons: list[str | None] = []
    for negative in negatives:
        key = normalized(negative)
        reason = None
        if not key:
            reason = "empty"
        elif not is_clean(negative):
            reason = "not clean"
        elif _MARKUP.search(negative) or not _same_script(positive, negative):
            reason = "markup"
        elif key == own:
            reason = "equals the positive"
        elif key in seen:
            reason = "duplicate"
        elif len(negative.split()) > words + _MAX_GROWTH:
            reason = "length"
        seen.add(key)
        reasons.append(reason)
    return reasons


def _same_script(positive: str, negative: str) -> bool:
    """Whether every character is one of plain English, or of the positive."""
    return all(c.isascii() or c in positive or c in "’‘é" for c in negative)


def _lemma(token: Token) -> str:
    return token.lemma_.casefold()


def _lemmas(doc: Doc) -> set[str]:
    """Words and lemmas of `doc`, so that a tag that differs ("park" as a verb) does not hide a noun."""
    return {token.lemma_.casefold() for token in doc} | {token.lower_ for token in doc}
