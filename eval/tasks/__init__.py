"""One file a benchmark; importing this package registers them all."""

from eval.tasks import (
    boxes,
    coco_boxes,
    coco_retrieval,
    dci,
    fgovd,
    flickr30k,
    imagenet,
    imagenet_v2,
    lvis_boxes,
    negatives,
    openimages_boxes,
    ov_coco,
    phrases,
    retrieval,
    sharegpt4v,
    sugarcrepe,
)
from eval.tasks.base import TASKS, Task, make_task, register

__all__ = [
    "TASKS",
    "Task",
    "boxes",
    "coco_boxes",
    "coco_retrieval",
    "dci",
    "fgovd",
    "flickr30k",
    "imagenet",
    "imagenet_v2",
    "lvis_boxes",
    "make_task",
    "negatives",
    "openimages_boxes",
    "ov_coco",
    "phrases",
    "register",
    "retrieval",
    "sharegpt4v",
    "sugarcrepe",
]
