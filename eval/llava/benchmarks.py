"""One file a benchmark; importing this module registers them all."""

from eval.llava import gqa, mmbench, pope, refcoco
from eval.llava.benchmark import BENCHMARKS

__all__ = ["BENCHMARKS", "gqa", "mmbench", "pope", "refcoco"]
