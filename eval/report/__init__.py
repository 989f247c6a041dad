"""Results as tables, Markdown, HTML and the Hub's model-index."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        "table": ["comparison_table", "left_out_text", "results_table"],
        "write": ["load_run", "renamed", "require_one_model", "write_report"],
    },
)
