"""Results as tables, Markdown, HTML and the Hub's model-index."""

from eval.report.table import comparison_table, left_out_text, results_table
from eval.report.write import load_run, write_report

__all__ = ["comparison_table", "left_out_text", "load_run", "results_table", "write_report"]
