"""The gate: every caption, box, expression and negative is judged here and nowhere else, whoever wrote and whoever reads it.

It stands behind the FineHARD reader, shards (streamed and map-style), the converters, curation, validation and the
evaluation's record tasks, so that all of them hold the same records and count the same faults.

Interface
    :func:`clean_record`  values of one record (published layout or schema) → the record without its image, or None
    :func:`clean_row`     one row of a shard, ``image`` included → the record with its image still encoded, or None
    :func:`clean_regions` a list of regions, boxes in any format → the usable ones
    :func:`clean_box`     one box in any format → normalized x1, y1, x2, y2, or None; :func:`cut_box` is its heart
    :func:`clean_text`, :func:`clean_texts`  one text, or none, one or several → usable ones
    :func:`is_missing`    whether a value says nothing: None, NaN, blank, invisible, or a table's word for "no value"
    :func:`join_records`  several records of one picture → one

Each takes a :class:`~dataset_scripts.report.Report`. With ``on_bad="skip"`` a fault is counted there under its reason
with the record's place, and what has it is left out; with ``on_bad="raise"`` it is a ValueError that names the place.
The published layout's files are read in :mod:`~dataset_scripts.annotations`, paths are guarded in
:mod:`~dataset_scripts.paths`.

Rules
    text       Blanks and invisible letters around it go. What says nothing is missing: counted, never an error. No text,
               or broken encoding, is a fault.
    captions   A record needs the long one or a short one. Repeated short captions are counted and go.
    box        Four finite numbers, judged in the precision they are stored in (float32), as fractions. Up to
               ``BOX_TOLERANCE`` outside the image it is cut and counted; farther out, inverted or empty it is a fault, and
               so is a box in fractions where pixels are declared. A fault costs its region, and not the record.
    region     Needs a box and one expression; a score, if there is one, is a finite number.
    negatives  A list, or the published dict, whose keys say nothing. They count unless ``flag_short_neg`` is there and 0.
               One that equals its positive (as a lower-casing tokenizer reads both) or another negative is a fault and goes.
    null       A null image or source_id is a fault that costs the record. Null regions are one that costs the regions.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from dataset_scripts.report import Report

# Rounded coordinates overshoot by a little; what lies farther out is a mistake, such as pixels for fractions.
BOX_TOLERANCE = 0.01
BoxFormat = Literal["normalized", "xyxy", "xywh"]
RULES = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]  # stands in the keys of caches of judged records

_LARGEST = float.fromhex("0x1.fffffep127")  # of float32
# U+FFFD stands where bytes were no UTF-8; a lone surrogate cannot be written as UTF-8 at all.
_BROKEN = re.compile("[\ud800-\udfff\ufffd]")
# White space, control and format characters (byte-order mark, zero-width space and joiners), and letters drawn as nothing.
_INVISIBLE = (
    "".join(
        letter
        for letter in map(chr, range(0x10000))
        if letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf", "Zs", "Zl", "Zp")
    )
    + "\u115f\u1160\u2800\u3164\uffa0"
)
# How tables and programs write "no value".
_NO_VALUE = {"nan", "none", "null", "<na>", "n/a", "#n/a", "na"}
_LONGEST_NO_VALUE = max(map(len, _NO_VALUE))


def _says_nothing(text: str) -> bool:
    """Whether a text without surrounding blanks is none."""
    return not text or (len(text) <= _LONGEST_NO_VALUE and text.casefold() in _NO_VALUE)


def is_missing(value: object) -> bool:
    """Whether a value stands for "no text": None, NaN, blank, only invisible letters, or a word such as ``nan``, ``None``."""
    if isinstance(value, str):
        return _says_nothing(value.strip(_INVISIBLE))
    return value is None or value != value


def clean_text(value: object, kind: str, where: str, report: Report) -> str | None:
    """The text without what is invisible around it; None if it is missing or unusable, which is counted (None is not)."""
    if value is None:
        return None
    if (
        type(value) is str
        and value.isascii()
        and len(value) > _LONGEST_NO_VALUE
        and value[0] > " "
        and " " < value[-1] < "\x7f"
    ):
        return value  # nearly every text; the rest of the rules is slow
    if not isinstance(value, str):
        if value != value:  # NaN, an empty cell of a table
            report.missing(f"{kind} is missing", where)
        else:
            report.bad(f"{kind} is no text", where, value)
        return None
    if _BROKEN.search(value):
        report.bad(f"{kind} has broken encoding", where, ascii(value))
        return None
    text = value.strip(_INVISIBLE)
    if _says_nothing(text):
        report.missing(f"{kind} is missing", where)
        return None
    return text


def clean_texts(value: object, kind: str, where: str, report: Report) -> list[str]:
    """The usable texts of none, one or a list of them, each once."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        value = [value]
    kept: dict[str, None] = {}
    for number, item in enumerate(value):
        text = clean_text(item, kind, where, report)
        if text is not None and text in kept:
            report.missing(f"{kind} is repeated", f"{where} {number}")
        elif text is not None:
            kept[text] = None
    return list(kept)


def _is_number(value: object) -> bool:
    """Whether float32 has it as a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


class BadBox(ValueError):
    """Four numbers that are no box in an image; the message is the same for all of a kind."""


def cut_box(box: list[float], tolerance: float = BOX_TOLERANCE) -> list[float]:
    """The part of a box that lies in the image; the box itself if all of it does.

    Args:
        box: x1, y1, x2, y2 as fractions, in the precision they are kept in.
        tolerance: how far outside is no mistake. Infinite where a box is known to be right, such as one of a benchmark.

    Raises:
        BadBox: it lies farther outside, is inverted or empty, or is no four finite numbers.
    """
    x1, y1, x2, y2 = box
    if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
        return box
    if not all(map(math.isfinite, box)):
        raise BadBox("box has a coordinate that is no finite number")
    if min(box) < -tolerance or max(box) > 1 + tolerance:
        raise BadBox("box lies outside the image")
    x1, y1, x2, y2 = inner = [min(max(edge, 0.0), 1.0) for edge in box]
    if x2 <= x1 or y2 <= y1:
        raise BadBox("box is inverted or empty")
    return inner


def clean_box(
    box: object,
    where: str,
    report: Report,
    box_format: BoxFormat = "normalized",
    size: tuple[float, float] | None = None,
) -> list[float] | None:
    """x1, y1, x2, y2 in [0, 1], each exact in float32, from a list that begins with a box; None if unusable, which is counted.

    Args:
        box: list that begins with four numbers.
        where: names the record and the region.
        report: counts faults.
        box_format: ``"normalized"`` (x1, y1, x2, y2 as fractions), ``"xyxy"`` or ``"xywh"``, the latter two in pixels.
        size: width and height of the picture in pixels; needed by the latter two.
    """
    if not isinstance(box, list | tuple) or len(box) < 4:
        report.bad("box is no list of four numbers", where, box)
        return None
    corners = box[:4]
    if not all(map(_is_number, corners)):
        report.bad("box has a coordinate that is no finite number", where, box)
        return None
    if box_format != "normalized":
        if size is None or not all(map(_is_number, size)) or min(size) <= 0:
            report.bad("box in pixels of a picture without a size", where, size)
            return None
        x1, y1, x2, y2 = corners
        if box_format == "xywh":
            x2, y2 = x1 + x2, y1 + y2
        if x1 < x2 <= 1 + BOX_TOLERANCE and y1 < y2 <= 1 + BOX_TOLERANCE:  # in the first pixel
            report.bad("box in fractions where pixels are declared", where, box)
            return None
        width, height = size
        corners = [x1 / width, y1 / height, x2 / width, y2 / height]
    stored = array("f", corners).tolist()
    try:
        inner = cut_box(stored)
    except BadBox as error:
        report.bad(str(error), where, box)
        return None
    if inner is not stored:
        report.keep("boxes clipped to the image")
    return inner


def _clean_negatives(value: object, positive: str | None, where: str, report: Report) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        report.bad("negatives are neither a list nor a dict", where, value)
        return []
    known = {positive.casefold()} if positive is not None else set()  # by what the lower-casing tokenizer sees
    kept = []
    for number, item in enumerate(value):
        text = clean_text(item, "negative", where, report)
        if text is None:
            continue
        if (key := text.casefold()) not in known:
            known.add(key)
            kept.append(text)
        elif positive is not None and key == positive.casefold():
            report.bad("negative equals its positive", f"{where} negative {number}", text)
        else:
            report.bad("negative is repeated", f"{where} negative {number}", text)
    if kept and positive is None:
        report.bad("negatives without a short expression", where)
        return []
    return kept


def _clean_region(
    info: object, where: str, report: Report, box_format: BoxFormat, size: tuple[float, float] | None
) -> dict[str, Any] | None:
    if not isinstance(info, dict):
        report.bad("region is no object", where, info)
        return None
    box = clean_box(info.get("bbox"), where, report, box_format, size)
    if box is None:
        return None
    short = clean_text(info.get("short_expr"), "expression", where, report)
    long = clean_text(info.get("long_expr"), "expression", where, report)
    if short is None and long is None:
        report.bad("region without an expression", where)
        return None
    score = info.get("score")
    if score is None:
        score = info["bbox"][4] if len(info["bbox"]) > 4 else 1.0  # the published layout has it behind the box
    if not _is_number(score):
        report.bad("score is no finite number", where, score)
        return None
    negatives = []
    if info.get("flag_short_neg", 1):
        negatives = _clean_negatives(info.get("short_expr_negs", info.get("negatives")), short, where, report)
    report.keep("regions")
    report.keep("negatives", len(negatives))
    report.keep("regions with negatives", bool(negatives))
    (score,) = array("f", [score])
    return {"bbox": box, "score": score, "short_expr": short, "long_expr": long, "negatives": negatives}


def clean_regions(
    infos: object,
    where: str,
    report: Report,
    box_format: BoxFormat = "normalized",
    size: tuple[float, float] | None = None,
) -> list[dict[str, Any]]:
    """The usable ones of a list of regions, each ``bbox``, ``score``, ``short_expr``, ``long_expr``, ``negatives``.

    Args:
        infos: list of objects with ``bbox`` and ``short_expr`` or ``long_expr``; ``score`` and the negatives (``negatives``,
            or the published ``short_expr_negs`` and ``flag_short_neg``) are optional. None is an empty list.
        where: names the record.
        report: counts faults.
        box_format, size: of all boxes, see :func:`clean_box`.
    """
    if infos is None:
        return []
    if not isinstance(infos, list | tuple):
        report.bad("regions are no list", where, infos)
        return []
    regions = (
        _clean_region(info, f"{where} region {number}", report, box_format, size) for number, info in enumerate(infos)
    )
    return [region for region in regions if region is not None]


def _value_of(values: dict[str, Any], *names: str) -> Any:
    """Under the first of these names that has one."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def clean_record(
    values: object, source_id: str, report: Report, where: str | None = None, captioned: bool = True
) -> dict[str, Any] | None:
    """Everything of the record but ``image``; None if it has no usable caption, which is counted.

    Args:
        values: as the published layout has them (``caption``, ``short_caption``, ``bbox_info``) or as the schema
            (``caption``, ``short_captions``, ``regions``), boxes in fractions.
        source_id: of the record.
        report: counts faults.
        where: names the record in the report; by default its ``source_id``.
        captioned: whether it needs a caption.

    Raises:
        ValueError: at the first fault, where the report says ``on_bad="raise"``.
    """
    where = where or source_id
    if not isinstance(values, dict):
        report.bad("record is no object", where, values)
        return None
    caption = clean_text(values.get("caption"), "caption", where, report)
    short = clean_texts(_value_of(values, "short_captions", "short_caption"), "short caption", where, report)
    if captioned and caption is None and not short:
        report.bad("record without a caption", where)
        return None
    infos = _value_of(values, "regions", "bbox_info")
    if infos is None and ("regions" in values or "bbox_info" in values):
        report.bad("regions are null", where)
    regions = clean_regions(infos, where, report)
    return {"caption": caption, "short_captions": short, "regions": regions, "source_id": source_id}


def clean_row(values: dict[str, Any], where: str, report: Report) -> dict[str, Any] | None:
    """The record of a shard's row, ``image`` still encoded as ``{"path": None, "bytes": …}``; None if it is unusable.

    Pictures are stored as bytes; a path in their place is not followed.

    Args:
        values: of the columns, by name.
        where: names shard and row.
        report: counts faults.
    """
    source_id, image = values.get("source_id"), values.get("image")
    if not isinstance(source_id, str) or not source_id:
        report.bad("record without a source_id", where, source_id)
        return None
    where = f"{where} {source_id}"
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes) or not data:
        report.bad("record without an image", where, image)
        return None
    record = clean_record(values, source_id, report, where)
    return record if record is None else {"image": {"path": None, "bytes": data}, **record}


def join_captions(captions: Sequence[str]) -> str | None:
    """Several captions of one picture as one text of as many sentences; a single one stays as it is."""
    if len(captions) < 2:
        return captions[0] if captions else None
    return " ".join(f"{text.rstrip(' .')}." for text in captions)


def _distinct(items: Iterable[Any]) -> list[Any]:
    return list({json.dumps(item): item for item in items}.values())


def join_records(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record of several of the same picture; the first one's ``source_id`` and whatever else it has stay.

    Distinct long captions become one text, short captions and regions one list each. Several long captions without a
    short one are the short ones, too.
    """
    if len(records) == 1:
        return records[0]
    long = _distinct(record["caption"] for record in records if record["caption"] is not None)
    short = _distinct(text for record in records for text in record["short_captions"])
    return {
        **records[0],
        "caption": join_captions(long),
        "short_captions": short or (long if len(long) > 1 else []),
        "regions": _distinct(region for record in records for region in record["regions"]),
    }
