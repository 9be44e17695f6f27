"""Parts of a data set: the published base and novel classes, your own, and a validation set."""

from .benchmarks import BENCHMARKS, Benchmark, Part, benchmark_parts
from .classes import choose_novel, class_parts
from .images import choose_images, image_parts

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Part",
    "benchmark_parts",
    "choose_images",
    "choose_novel",
    "class_parts",
    "image_parts",
]
