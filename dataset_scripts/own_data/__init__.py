"""Converters of other data sets into the schema; ``python -m dataset_scripts.own_data --help`` lists them."""

from dataset_scripts.own_data.coco import coco_source
from dataset_scripts.own_data.flickr30k import flickr30k_source
from dataset_scripts.own_data.hub import hub_source
from dataset_scripts.own_data.mapping import Columns
from dataset_scripts.own_data.referring import referring_source
from dataset_scripts.own_data.table import table_source
from dataset_scripts.own_data.tars import webdataset_source

__all__ = [
    "Columns",
    "coco_source",
    "flickr30k_source",
    "hub_source",
    "referring_source",
    "table_source",
    "webdataset_source",
]
