"""Results as tables, Markdown, HTML and the Hub's model-index."""

from eval.report.table import comparison_table, results_table
from eval.report.write import load_run, write_report

__all__ = ["comparison_table", "load_run", "results_table", "write_report"]
