"""Results as tables."""

from eval.report.table import comparison_table, results_table

__all__ = ["comparison_table", "results_table"]
