"""Markdown of a report: what data says stays text, also in headers and captions."""

from __future__ import annotations

from eval.report.document import Document, Section, Table
from eval.report.markdown import to_markdown


def test_headers_and_captions_are_escaped():
    table = Table(["caption", "out|put/*new*", "<b>b</b>"], [["a", "1", "2"]], caption="_of_ `a` [b]\n# c")
    lines = to_markdown(Document("title", "", [Section("s", [table])])).splitlines()
    assert r"\_of\_ \`a\` \[b] # c" in lines
    assert r"| caption | out\|put/\*new\* | &lt;b>b&lt;/b> |" in lines
