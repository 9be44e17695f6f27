"""Class embeddings in batches without padding, against a loop over classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regionclip.concepts.templates import TEMPLATES, fill_template
from regionclip.encoders.clip_resnet import SPECS, ClipResNet
from regionclip.encoders.text import class_embeddings
from regionclip.vocabulary import builtin_names

from .measure import Report, Timing, interleaved
from .stand_ins import fill

PROMPTS = TEMPLATES["imagenet80"]


def run(*, num_names: int, repeats: int, device: torch.device) -> Report:
    """RN50's text tower, LVIS names with 81 prompts each."""
    encoder = ClipResNet(SPECS["RN50"])
    fill(encoder, seed=0).to(device)
    all_names = builtin_names("lvis1203")
    names = _spread(all_names, num_names)
    functions = {
        "loop over classes, 77 tokens": lambda: looped_embeddings(encoder, names),
        "ours": lambda: class_embeddings(encoder, names, PROMPTS),
    }
    looped, ours = (function() for function in functions.values())
    difference = float((ours - looped).norm() / looped.norm())
    timings = interleaved(functions, repeats=repeats, device=device)
    rows = []
    for name, timing in timings.items():
        per_name = timing.seconds / len(names)
        rows.append(
            {
                "class embeddings": name,
                "seconds": f"{timing.seconds:.2f}",
                "ratio": f"{timings['loop over classes, 77 tokens'].seconds / timing.seconds:.2f}",
                "prompts per second": f"{len(PROMPTS) / per_name:.0f}",
                "minutes for 1203 names": f"{per_name * len(all_names) / 60:.1f}",
                "cores busy": f"{timing.busy_cores:.2f}",
            }
        )
    return Report(
        name="text",
        title=f"Embeddings of {len(names)} classes x {len(PROMPTS)} prompts, RN50 text tower",
        rows=rows,
        notes=[
            f"relative difference {difference:.1e}",
            "the last but one column scales the measured names up to all of LVIS",
        ],
    )


def run_all(*, num_names: int, device: torch.device) -> Report:
    """RN50's text tower, all LVIS names with 81 prompts each, once; the loop on some of them."""
    encoder = ClipResNet(SPECS["RN50"])
    fill(encoder, seed=0).to(device)
    names = builtin_names("lvis1203")
    some = _spread(names, num_names)
    class_embeddings(encoder, some, PROMPTS)  # to warm up
    # before and after, for what else the machine does then may change meanwhile
    loops = [_timed_loop(encoder, some, device)]
    everything = {"": lambda: class_embeddings(encoder, names, PROMPTS)}
    timing = interleaved(everything, repeats=1, warm_up=0, device=device)[""]
    loops.append(_timed_loop(encoder, some, device))
    loop_seconds = sum(loop.seconds for loop in loops) / len(loops)
    loop_cores = sum(loop.busy_cores for loop in loops) / len(loops)
    rate, loop_rate = (
        len(each) * len(PROMPTS) / seconds
        for each, seconds in ((names, timing.seconds), (some, loop_seconds))
    )
    return Report(
        name="text_all",
        title=f"Embeddings of {len(names)} classes x {len(PROMPTS)} prompts, RN50 text tower",
        rows=[
            _all_row(f"loop over {len(some)} classes, 77 tokens", loop_seconds, loop_rate, 1.0)
            | {"cores busy": f"{loop_cores:.2f}"},
            _all_row(f"ours, all {len(names)} classes", timing.seconds, rate, rate / loop_rate)
            | {"cores busy": f"{timing.busy_cores:.2f}"},
        ],
        notes=["ours ran once, between two runs of the loop, whose mean is given"],
    )


def _all_row(name: str, seconds: float, rate: float, ratio: float) -> dict[str, str]:
    return {
        "class embeddings": name,
        "seconds": f"{seconds:.1f}",
        "prompts per second": f"{rate:.0f}",
        "ratio": f"{ratio:.2f}",
    }


def _timed_loop(encoder: ClipResNet, names: Sequence[str], device: torch.device) -> Timing:
    loop = {"": lambda: looped_embeddings(encoder, names)}
    return interleaved(loop, repeats=1, warm_up=0, device=device)[""]


def _spread(names: Sequence[str], count: int) -> Sequence[str]:
    """``count`` names from all over the list: long and short ones."""
    return names[:: max(1, len(names) // count)][:count]


def looped_embeddings(encoder: ClipResNet, names: Sequence[str]) -> Tensor:
    """One forward pass per class, padding included."""
    rows = []
    for name in names:
        tokens = encoder.tokenize([fill_template(template, name) for template in PROMPTS])
        rows.append(encoder.encode_tokens(tokens).mean(dim=0).cpu())
    return torch.stack(rows)
