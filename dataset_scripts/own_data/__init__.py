"""Converters of other data sets into the schema; ``python -m dataset_scripts.own_data --help`` lists them."""

from dataset_scripts.own_data.captions import dci_source, karpathy_source, sharegpt4v_source
from dataset_scripts.own_data.coco import coco_source
from dataset_scripts.own_data.flickr30k import flickr30k_source
from dataset_scripts.own_data.folder import folder_source
from dataset_scripts.own_data.hub import hub_source, parquet_source
from dataset_scripts.own_data.mapping import Columns
from dataset_scripts.own_data.open_images import open_images_source
from dataset_scripts.own_data.referring import referring_source
from dataset_scripts.own_data.table import table_source
from dataset_scripts.own_data.tars import webdataset_source

__all__ = [
    "Columns",
    "coco_source",
    "dci_source",
    "flickr30k_source",
    "folder_source",
    "hub_source",
    "karpathy_source",
    "open_images_source",
    "parquet_source",
    "referring_source",
    "sharegpt4v_source",
    "table_source",
    "webdataset_source",
]
