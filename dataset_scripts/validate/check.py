"""Goes once through a data set and counts what is wrong, what is odd, and what is in it."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataset_scripts.images import BadImage, CheckedImage, check_image
from dataset_scripts.prefetch import prefetch
from dataset_scripts.progress import progress_bar
from dataset_scripts.records import clean_row
from dataset_scripts.report import Report
from dataset_scripts.validate.records import raw_records

SHORT, LONG = 77, 248  # positions of the text encoder, DESIGN section 3
TINY = 1 / 32  # of a side: less than half a patch of ViT-B/16 at 224 pixels
_TOKEN_SAMPLE = 20_000  # texts of each kind whose tokens are counted
_READERS = 4

# Number of tokens of each text, special ones included.
CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass
class Findings:
    """What :func:`check` saw.

    Attributes:
        errors: faults for which something would be left out in training, or which make training wrong.
        oddities: what may be meant, but seldom is.
        sides, areas: image sides in pixels (width, height in turn) and box areas as fractions of the image.
        tokens: token counts of sampled texts by kind; empty without a tokenizer.
        negatives: how many regions have how many negatives.
        examples: a random sample of (picture, regions), for the sheet.
    """

    errors: Report = field(default_factory=Report)
    oddities: Report = field(default_factory=Report)
    sides: array = field(default_factory=lambda: array("I"))
    areas: array = field(default_factory=lambda: array("f"))
    tokens: dict[str, list[int]] = field(default_factory=dict)
    negatives: Counter[int] = field(default_factory=Counter)
    examples: list[tuple[bytes, list[dict[str, Any]]]] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong; oddities do not count."""
        return not self.errors.problems

    def truncated(self, kind: str, limit: int) -> float:
        """Share of texts with more tokens than the encoder has positions."""
        return float(np.mean(np.array(self.tokens[kind]) > limit)) if self.tokens.get(kind) else 0.0


class _Repetitions:
    """Finds equal texts with 8 bytes a text in memory."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, text: str) -> None:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "big"))

    def count(self) -> int:
        """Texts that are not the first of their kind."""
        return len(self._hashes) - len(np.unique(np.frombuffer(self._hashes, dtype=np.uint64))) if self._hashes else 0


class _Texts:
    """A bounded sample of texts by kind, and repetitions of all."""

    def __init__(self) -> None:
        self.sample: dict[str, list[str]] = {"caption": [], "short caption": [], "expression": []}
        self.repeated = {kind: _Repetitions() for kind in ("caption", "short caption")}

    def add(self, kind: str, text: str | None) -> None:
        if text is None:
            return
        if len(self.sample[kind]) < _TOKEN_SAMPLE:
            self.sample[kind].append(text)
        if kind in self.repeated:
            self.repeated[kind].add(text)


def _look_at(record: dict[str, Any], where: str, findings: Findings, texts: _Texts) -> None:
    texts.add("caption", record["caption"])
    for text in record["short_captions"]:
        texts.add("short caption", text)
    for region in record["regions"]:
        x1, y1, x2, y2 = region["bbox"]
        findings.areas.append((x2 - x1) * (y2 - y1))
        findings.negatives[len(region["negatives"])] += 1
        if min(x2 - x1, y2 - y1) < TINY:
            findings.oddities.bad(f"box narrower than 1/{round(1 / TINY)} of the image", where, region["bbox"])
        texts.add("expression", region["short_expr"])
        texts.add("expression", region["long_expr"])


def check(
    root: str,
    split: str = "train",
    count_tokens: CountTokens | None = None,
    max_records: int | None = None,
    examples: int = 16,
    storage_options: dict[str, Any] | None = None,
) -> Findings:
    """Reads every record once, in constant memory but for 8 bytes a caption.

    Args:
        root: folder or URL with shards or the published layout.
        split: which.
        count_tokens: of the tokenizer that training will use; None leaves token lengths out.
        max_records: stop after as many.
        examples: how many records to keep for the picture sheet.
        storage_options: for fsspec.

    Raises:
        ValueError: nothing to check is there.
    """
    findings, texts, names = Findings(), _Texts(), _Repetitions()
    rng = random.Random(0)

    def load(item: tuple[str, dict[str, Any]]) -> CheckedImage:
        return check_image((item[1].get("image") or {}).get("bytes") or b"")

    records = raw_records(root, split, findings.errors, storage_options)
    for number, ((where, raw), image) in enumerate(
        progress_bar(prefetch(records, load, _READERS), "checking", unit="record")
    ):
        if max_records is not None and number >= max_records:
            break
        findings.errors.keep("records")
        record = clean_row(raw, where, findings.errors)
        if record is None:
            continue
        _look_at(record, where, findings, texts)
        regions = record["regions"]
        findings.errors.keep("records without a region", not regions)
        names.add(record["source_id"])
        try:
            picture = image.result()
        except BadImage as error:
            findings.errors.bad(error.reason, where, error)
            continue
        findings.sides.extend((picture.width, picture.height))
        if len(findings.examples) < examples:
            findings.examples.append((picture.data, regions))
        elif (place := rng.randrange(number + 1)) < examples:
            findings.examples[place] = (picture.data, regions)
    if repeated := names.count():
        findings.errors.problems["source_id is repeated"] += repeated
        findings.errors.examples["source_id is repeated"] = [f"{repeated} records"]
    for kind, repetitions in texts.repeated.items():
        if repeated := repetitions.count():
            findings.oddities.problems[f"{kind} is repeated"] += repeated
            findings.oddities.examples[f"{kind} is repeated"] = [f"{repeated} records"]
    if count_tokens is not None:
        findings.tokens = {kind: count_tokens(sample) for kind, sample in texts.sample.items() if sample}
    return findings
