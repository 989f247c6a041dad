"""A report as one HTML page that needs nothing but itself; readable on a phone, in light and dark."""

from __future__ import annotations

from html import escape

from eval.report.document import Cell, Document, Table

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5b6570;--line:#dfe3e8;--bar:#cfe3ff;--own:#f2f7ff;--mark:#c2410c}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e8eb;--soft:#9aa4af;--line:#2d333a;--bar:#1f3f66;--own:#18222e;--mark:#fb923c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:1.25rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
p{margin:.5rem 0;color:var(--soft);overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.7rem 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
caption span{position:sticky;left:0;display:inline-block;max-width:calc(100vw - 3rem)}
th,td{padding:.32rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600}
.left{text-align:left}
tbody th.left{font-weight:400;color:var(--fg);position:sticky;left:0;background:var(--bg)}
table.pairs td{white-space:normal;overflow-wrap:anywhere;min-width:9rem}
tr.own{background:var(--own);font-weight:600}tr.own th.left{font-weight:600;background:var(--own)}
.bar{position:relative;display:block;min-width:4.5rem}
.bar i{position:absolute;inset:0 auto 0 0;background:var(--bar);border-radius:2px}
.bar b{position:absolute;top:-2px;bottom:-2px;width:2px;background:var(--mark)}
.bar span{position:relative;padding-right:.2rem}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}.cards img{width:100%}
summary{cursor:pointer;color:var(--soft);padding:.4rem 0}
@media(max-width:40rem){body{padding:.8rem}th,td{padding:.3rem .35rem}table{font-size:.82rem}.bar{min-width:3rem}table.pairs th.left,table.pairs td{white-space:normal;min-width:0}}
figure{margin:1rem 0}img{max-width:100%;height:auto}figcaption{color:var(--soft);font-size:.9rem}
"""


def to_html(document: Document) -> str:
    """One self-contained page."""
    body = [f"<h1>{escape(document.title)}</h1><p>{escape(document.subtitle)}</p>"]
    for section in document.sections:
        body.append(f"<section><h2>{escape(section.title)}</h2>")
        body += [table_html(part) if isinstance(part, Table) else f"<p>{escape(part)}</p>" for part in section.parts]
        body.append("</section>")
    return page(document.title, "\n".join(body))


def page(title: str, body: str) -> str:
    """`body` (HTML) in a page with the report's style."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def table_html(table: Table) -> str:
    """A table that scrolls sideways where it does not fit."""
    kind = ' class="pairs"' if len(table.header) == 2 and table.left == 2 else ""
    caption = f"<caption><span>{escape(table.caption)}</span></caption>" if table.caption and not table.folded else ""
    head = "".join(f'<th scope="col"{_left(i, table)}>{escape(name)}</th>' for i, name in enumerate(table.header))
    rows = []
    for number, row in enumerate(table.rows):
        cells = []
        for i, cell in enumerate(row):
            tag = 'th scope="row"' if i == 0 else "td"
            cells.append(f"<{tag}{_left(i, table)}>{_cell(cell)}</{tag.split()[0]}>")
        rows.append(f"<tr{' class=own' if number in table.own else ''}>{''.join(cells)}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    whole = f'<div class="scroll" tabindex="0"><table{kind}>{caption}{body}</table></div>'
    return f"<details><summary>{escape(table.caption)}</summary>{whole}</details>" if table.folded else whole


def _left(column: int, table: Table) -> str:
    return ' class="left"' if column < table.left else ""


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return escape(cell)
    if cell.share is None:
        return escape(cell.text)
    mark = "" if cell.mark is None else f'<b style="left:{100 * cell.mark:.1f}%" title="chance"></b>'
    return (
        f'<span class="bar"><i style="width:{100 * cell.share:.1f}%"></i>{mark}<span>{escape(cell.text)}</span></span>'
    )
