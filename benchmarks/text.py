"""Class embeddings in batches without padding, against a loop over classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regionclip.concepts.templates import TEMPLATES, fill_template
from regionclip.encoders.clip_resnet import SPECS, ClipResNet
from regionclip.encoders.text import class_embeddings
from regionclip.vocabulary import builtin_names

from .measure import Report, interleaved
from .stand_ins import fill

PROMPTS = TEMPLATES["imagenet80"]


def run(*, num_names: int, repeats: int, device: torch.device) -> Report:
    """RN50's text tower, LVIS names with 81 prompts each."""
    encoder = ClipResNet(SPECS["RN50"])
    fill(encoder, seed=0).to(device)
    all_names = builtin_names("lvis1203")
    names = all_names[:: max(1, len(all_names) // num_names)][:num_names]
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


def looped_embeddings(encoder: ClipResNet, names: Sequence[str]) -> Tensor:
    """One forward pass per class, padding included."""
    rows = []
    for name in names:
        tokens = encoder.tokenize([fill_template(template, name) for template in PROMPTS])
        rows.append(encoder.encode_tokens(tokens).mean(dim=0).cpu())
    return torch.stack(rows)
