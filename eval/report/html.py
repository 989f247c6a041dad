"""A report as one HTML page that needs nothing but itself; readable on a phone, in light and dark."""

from dataset_scripts.pages import render
from eval.report.document import Document


def to_html(document: Document) -> str:
    """One self-contained page."""
    return render("eval/report/report.html", title=document.title, document=document)
