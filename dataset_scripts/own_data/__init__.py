"""Converters of other data sets into the schema; ``fgclip own-data --help`` lists them."""

from modeling_fgclip.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        "captions": ["dci_source", "karpathy_source", "sharegpt4v_source"],
        "coco": ["coco_source"],
        "columns": ["Columns"],
        "flickr30k": ["flickr30k_source"],
        "folder": ["folder_source"],
        "hub": ["hub_source", "parquet_source"],
        "open_images": ["open_images_source"],
        "referring": ["referring_source"],
        "table": ["table_source"],
        "tars": ["webdataset_source"],
    },
)
