"""A report as Markdown."""

from __future__ import annotations

from eval.report.document import Document, Table, text_of


def to_markdown(document: Document) -> str:
    """GitHub-flavoured Markdown."""
    lines = [f"# {_plain(document.title)}", "", _plain(document.subtitle), ""]
    for section in document.sections:
        lines += [f"## {_plain(section.title)}", ""]
        for part in section.parts:
            lines += [_table(part) if isinstance(part, Table) else _plain(part), ""]
    return "\n".join(lines)


def _table(table: Table) -> str:
    rows = []
    for number, row in enumerate(table.rows):
        cells = [_plain(text_of(cell)) for cell in row]
        rows.append([f"**{cell}**" if number in table.own and cell else cell for cell in cells])
    rule = [":--" if i < table.left else "--:" for i in range(len(table.header))]
    header = [_plain(name) for name in table.header]  # may be the name of a model
    body = "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])
    return f"{_plain(table.caption)}\n\n{body}" if table.caption else body


def _plain(text: str) -> str:
    """Keep what data says from being read as Markdown or HTML."""
    for symbol in ("\\", "|", "*", "_", "`", "["):
        text = text.replace(symbol, f"\\{symbol}")
    return text.replace("<", "&lt;").replace("\n", " ")
