"""Findings for people: a text, a JSON object, and a sheet of pictures with their boxes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dataset_scripts.validate.check import LONG, SHORT, Findings
from modeling_fgclip.pixels import to_rgb

_BAR = 40
_CELL, _TEXT = 320, 120  # pixels
_COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")


def _histogram(values: np.ndarray, edges: list[float], unit: str) -> list[str]:
    counts, _ = np.histogram(values, edges)
    largest = max(counts.max(), 1)
    return [
        f"  {low:>6g} – {high:<6g}{unit} {count:>10,}  {'█' * round(_BAR * count / largest)}"
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]


def _quantiles(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return f"smallest {low:g}, median {middle:g}, largest {high:g}"


def as_text(findings: Findings) -> str:
    """A report to read: counts, distributions, errors and oddities with examples."""
    lines = ["what is in it", *(f"  {name:<30}{count:>12,}" for name, count in sorted(findings.errors.kept.items()))]
    if findings.sides:
        lines.append(f"image sides in pixels: {_quantiles(np.array(findings.sides))}")
    if findings.areas:
        areas = np.array(findings.areas)
        lines += [
            "box areas, share of the image",
            *_histogram(areas, [0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0001], ""),
        ]
        lines.append("negatives a region: " + ", ".join(f"{n}: {c:,}" for n, c in sorted(findings.negatives.items())))
    for kind, tokens in findings.tokens.items():
        lines.append(f"{kind}s in tokens ({len(tokens):,} looked at): {_quantiles(np.array(tokens))}")
        lines += _histogram(np.array(tokens), [0, 10, 20, 40, SHORT + 1, 128, LONG + 1, 100_000], " tokens")
        cut = (f"{findings.truncated(kind, limit):.1%} at {limit}" for limit in (SHORT, LONG))
        lines.append(f"  cut off: {', '.join(cut)}" + (f" (long captions have {LONG})" if kind == "caption" else ""))
    for title, report in (("errors", findings.errors), ("oddities", findings.oddities)):
        lines.append(f"{title}: {sum(report.problems.values()):,}")
        for reason, count in report.problems.most_common():
            lines.append(f"  {count:>8,}  {reason}")
            lines += [f"            {place}" for place in report.examples.get(reason, [])[:3]]
    return "\n".join(lines)


def as_dict(findings: Findings) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "errors": findings.errors.as_dict(),
        "oddities": findings.oddities.as_dict(),
        "negatives per region": {str(number): count for number, count in sorted(findings.negatives.items())},
        "truncated": {
            kind: {str(limit): findings.truncated(kind, limit) for limit in (SHORT, LONG)} for kind in findings.tokens
        },
    }


def _cell(data: bytes, regions: list[dict[str, Any]]) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _CELL + _TEXT), "white")
    picture = to_rgb(data)
    picture.thumbnail((_CELL - 8, _CELL - 8))
    if max(picture.size) < _CELL - 8:
        scale = (_CELL - 8) / max(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    draw = ImageDraw.Draw(picture)
    words = ImageDraw.Draw(cell)
    for number, region in enumerate(regions):
        color = _COLORS[number % len(_COLORS)]
        x1, y1, x2, y2 = region["bbox"]
        draw.rectangle(
            (x1 * (picture.width - 1), y1 * (picture.height - 1), x2 * (picture.width - 1), y2 * (picture.height - 1)),
            outline=color,
            width=2,
        )
        phrase = textwrap.shorten(region["short_expr"] or region["long_expr"] or "", 50, placeholder="…")
        if number < _TEXT // 14:
            words.text((4, _CELL + 13 * number), phrase.encode("latin-1", "replace").decode("latin-1"), fill=color)
    cell.paste(picture, (4, 4))
    return cell


def save_sheet(findings: Findings, path: Path) -> None:
    """A grid of example pictures with their boxes drawn and, in the box's color, the phrases below."""
    columns = 4
    rows = -(-len(findings.examples) // columns)
    sheet = Image.new("RGB", (columns * _CELL, max(rows, 1) * (_CELL + _TEXT)), "white")
    for number, (data, regions) in enumerate(findings.examples):
        sheet.paste(_cell(data, regions), (number % columns * _CELL, number // columns * (_CELL + _TEXT)))
    sheet.save(path)
