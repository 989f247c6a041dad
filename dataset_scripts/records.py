"""A published FineHARD record, a dict as parsed from JSON, turned into the project's record; every fault is counted."""

from __future__ import annotations

import math
from typing import Any, Literal

from dataset_scripts.report import Report

# Rounded coordinates overshoot by a little; what lies farther out is a mistake, such as pixels for fractions.
BOX_TOLERANCE = 0.01
BoxFormat = Literal["normalized", "xyxy", "xywh"]


def clean_text(value: object, kind: str, where: str, report: Report) -> str | None:
    """The text without surrounding blanks; None if there is none, or if it is unusable, which is counted."""
    if value is None:
        return None
    if not isinstance(value, str):
        report.bad(f"{kind} is no text", where, value)
        return None
    # U+FFFD stands where bytes were no UTF-8; a lone surrogate cannot be written as UTF-8 at all.
    if "\ufffd" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        report.bad(f"{kind} has broken encoding", where, ascii(value))
        return None
    text = value.strip()
    if not text:
        report.bad(f"{kind} is empty", where)
        return None
    return text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def clean_box(box: object, where: str, report: Report) -> list[float] | None:
    """x1, y1, x2, y2 in [0, 1] from a list that begins with them; None if unusable, which is counted."""
    if not isinstance(box, list | tuple) or len(box) < 4:
        report.bad("box is no list of x1, y1, x2, y2", where, box)
        return None
    corners = list(box[:4])
    if not all(map(_is_number, corners)):
        report.bad("box has a coordinate that is no finite number", where, box)
        return None
    if min(corners) < -BOX_TOLERANCE or max(corners) > 1 + BOX_TOLERANCE:
        report.bad("box lies outside the image", where, box)
        return None
    x1, y1, x2, y2 = (min(max(float(edge), 0.0), 1.0) for edge in corners)
    if x2 <= x1 or y2 <= y1:
        report.bad("box is inverted or empty", where, box)
        return None
    if [x1, y1, x2, y2] != [float(edge) for edge in corners]:
        report.keep("boxes clipped to the image")
    return [x1, y1, x2, y2]


def clean_negatives(value: object, positive: str | None, where: str, report: Report) -> list[str]:
    """Negatives from FineHARD's dict (``{"0": …}``) or a list, without repetitions and copies of the positive."""
    if value is None:
        return []
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        report.bad("negatives are neither a list nor a dict", where, value)
        return []
    kept: dict[str, str] = {}  # by what the lower-casing tokenizer sees
    for item in value:
        text = clean_text(item, "negative", where, report)
        if text is None:
            continue
        if positive is not None and text.casefold() == positive.casefold():
            report.bad("negative equals its positive", where, text)
        elif text.casefold() in kept:
            report.bad("negative is repeated", where, text)
        else:
            kept[text.casefold()] = text
    if kept and positive is None:
        report.bad("negatives without a short expression", where)
        return []
    return list(kept.values())


def _clean_region(info: object, where: str, report: Report) -> dict[str, Any] | None:
    if not isinstance(info, dict):
        report.bad("region is no object", where, info)
        return None
    box = clean_box(info.get("bbox"), where, report)
    if box is None:
        return None
    short = clean_text(info.get("short_expr"), "expression", where, report)
    long = clean_text(info.get("long_expr"), "expression", where, report)
    if short is None and long is None:
        report.bad("region without an expression", where)
        return None
    score = info["bbox"][4] if len(info["bbox"]) > 4 else 1.0
    if not _is_number(score):
        report.bad("score is no finite number", where, score)
        return None
    has_negatives = info.get("flag_short_neg", 1)
    wrong = (
        clean_negatives(info.get("short_expr_negs", info.get("negatives")), short, where, report)
        if has_negatives
        else []
    )
    report.keep("regions")
    report.keep("negatives", len(wrong))
    report.keep("regions with negatives", bool(wrong))
    return {"bbox": box, "score": float(score), "short_expr": short, "long_expr": long, "negatives": wrong}


def clean_regions(infos: object, where: str, report: Report) -> list[dict[str, Any]]:
    """The usable ones of a list of regions with normalized boxes."""
    if infos is None:
        return []
    if not isinstance(infos, list | tuple):
        report.bad("regions are no list", where, infos)
        return []
    regions = (_clean_region(info, f"{where} region {number}", report) for number, info in enumerate(infos))
    return [region for region in regions if region is not None]


def to_fractions(box: object, box_format: BoxFormat, width: float, height: float) -> object:
    """A box in any format as normalized x1, y1, x2, y2; what is no box of numbers is given back for the check to name.

    Args:
        box: list that begins with four numbers; anything behind them, such as a score, is kept.
        box_format: ``"normalized"``, ``"xyxy"`` or ``"xywh"``, the latter two in pixels.
        width, height: of the image, in pixels.
    """
    if box_format == "normalized" or not isinstance(box, list | tuple) or not all(map(_is_number, box[:4])):
        return box
    if len(box) < 4:
        return box
    x1, y1, x2, y2 = box[:4]
    if box_format == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    return [x1 / width, y1 / height, x2 / width, y2 / height, *box[4:]]


def clean_record(published: object, source_id: str, report: Report) -> dict[str, Any] | None:
    """Everything of the record but ``image``; None if it has no usable caption, which is counted.

    A region is left out when its box, score or both expressions are unusable; the rest of the record stays.

    Raises:
        ValueError: at the first fault, where the report says ``on_bad="raise"``.
    """
    if not isinstance(published, dict):
        report.bad("record is no object", source_id, published)
        return None
    caption = clean_text(published.get("caption"), "caption", source_id, report)
    short = clean_text(published.get("short_caption"), "short caption", source_id, report)
    if caption is None and short is None:
        report.bad("record without a caption", source_id)
        return None
    return {
        "caption": caption,
        "short_caption": short,
        "regions": clean_regions(published.get("bbox_info"), source_id, report),
        "source_id": source_id,
    }
