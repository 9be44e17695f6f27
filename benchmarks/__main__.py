"""``python -m benchmarks``: run the comparisons and write ``benchmarks/results/``."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import tyro

from . import (
    cora,
    dense,
    dense_training,
    end_to_end,
    objectness,
    region_head,
    serving,
    text,
    training_step,
)
from .measure import Report, SkippedError, publish

Name = Literal[
    "region_head",
    "end_to_end",
    "objectness",
    "cora",
    "dense",
    "dense_training",
    "training_step",
    "text",
    "text_all",
    "serving",
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure speed as ratios, e.g. python -m benchmarks --only region_head --repeats 5."""

    only: tuple[Name, ...] = ("region_head", "end_to_end", "objectness", "text")
    """Which comparisons to run. text_all encodes all 1203 names of LVIS once, which takes several
    minutes on two quiet cores, and so is run only when asked for."""
    device: str = "cpu"
    """Where to run: cpu, cuda, cuda:1."""
    repeats: int = 3
    """Timed runs of each side, after one to warm up; medians are reported."""
    num_regions: int = 1000
    """Regions per image."""
    num_photographs: int = 20
    """Photographs in which the effect of objectness is counted."""
    dense_side: int = 1024
    """Pixels of the square image that dense maps are made of."""
    training_side: int = 512
    """Pixels of the square images and mosaics that dense towers learn from; recipes have 1024."""
    num_training_images: int = 2
    """Images of CLIPSelf's step; recipes have as many per process."""
    num_training_regions: int = 256
    """Regions of the image that the training step learns from; recipes have 512."""
    num_loaded_images: int = 64
    """Photographs that the training step's loading is timed on, in each pass."""
    num_names: int = 4
    """Class names that the text comparisons' loop encodes, with 81 prompts each."""
    serving_seconds: float = 60.0
    """How long each of the two services is asked."""
    connections: int = 32
    """To a service at once."""


@torch.inference_mode()
def main(options: Options) -> int:
    """Run what is asked for; 1 if a target was missed."""
    device, repeats = torch.device(options.device), options.repeats
    runs: dict[str, Callable[[], Report]] = {
        "region_head": lambda: region_head.run(
            num_regions=options.num_regions, repeats=repeats, device=device
        ),
        "end_to_end": lambda: end_to_end.run(
            num_regions=options.num_regions, repeats=repeats, device=device
        ),
        "objectness": lambda: objectness.run(
            num_regions=options.num_regions,
            num_photographs=options.num_photographs,
            device=device,
        ),
        "cora": lambda: cora.run(repeats=repeats, device=device),
        "dense": lambda: dense.run(
            side=options.dense_side,
            num_regions=options.num_regions,
            repeats=repeats,
            device=device,
        ),
        "dense_training": lambda: dense_training.run(
            side=options.training_side,
            num_images=options.num_training_images,
            repeats=repeats,
            device=device,
        ),
        "training_step": lambda: training_step.run(
            num_regions=options.num_training_regions,
            num_loaded=options.num_loaded_images,
            repeats=repeats,
            device=device,
        ),
        "text": lambda: text.run(num_names=options.num_names, repeats=repeats, device=device),
        "serving": lambda: serving.run(
            seconds=options.serving_seconds, connections=options.connections, device=device
        ),
        "text_all": lambda: text.run_all(num_names=options.num_names, device=device),
    }
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    all_met = True
    for name in options.only:
        try:
            report = runs[name]()
        except SkippedError as reason:
            print(f"{name} left out: {reason}")
            continue
        publish(report, device, command)
        all_met &= all(report.targets.values())
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
