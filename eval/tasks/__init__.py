"""One file a benchmark; importing this package registers them all."""

from eval.tasks import boxes, fgovd, negatives, phrases, retrieval
from eval.tasks.base import TASKS, Task, make_task, register

__all__ = ["TASKS", "Task", "boxes", "fgovd", "make_task", "negatives", "phrases", "register", "retrieval"]
