"""Search at scale: embed a folder or a data set once, then query it by text, image or region."""

from eval.search.build import build
from eval.search.index import Hit, SearchIndex

__all__ = ["Hit", "SearchIndex", "build"]
