"""What a checkpoint of any known layout holds, in the rows of a table."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]

Rows = list[list[str]]


def summary_of(names: Sequence[str]) -> str:
    """How many there are, by what they begin with."""
    if not names:
        return "0"
    counts = Counter(name.split(".")[0] for name in names)
    return f"{len(names)}: " + ", ".join(f"{count} of {name}" for name, count in counts.items())


def file_rows(path: Path) -> Rows:
    """What a checkpoint holds, part by part."""
    from regionclip.checkpoints import is_native, read_checkpoint

    if is_native(path):
        return _own_rows(path)
    state = read_checkpoint(path)
    for is_known, rows_of in _known_layouts():
        if is_known(state):
            return rows_of(path, state)
    return _regionclip_rows(path, state)


def _known_layouts() -> "tuple[tuple[Callable[[State], bool], Callable[[Path, State], Rows]], ...]":
    """What tells an original's layout, and what describes it, in the order of loading."""
    from regionclip.encoders.eva_weights import is_eva_clip
    from regionclip.encoders.mean_clip_weights import is_mean_clip
    from regionclip.encoders.vit_weights import is_clip_vit
    from regionclip.methods.cora.weights import is_cora, is_region_prompt
    from regionclip.methods.detic.cascade_weights import is_original as is_cascade
    from regionclip.methods.detic.weights import is_original as is_detic
    from regionclip.methods.fvit.weights import is_original as is_fvit

    return (
        (is_region_prompt, _prompt_rows),
        (is_cora, _cora_rows),
        (is_fvit, _fvit_rows),
        (is_detic, _detic_rows),
        (is_cascade, _cascade_rows),
        (is_mean_clip, _mean_clip_rows),
        (is_eva_clip, _eva_rows),
        (is_clip_vit, _vit_rows),
    )


def _own_rows(path: Path) -> Rows:
    from regionclip.checkpoints import read_native_metadata

    metadata = read_native_metadata(path)
    rows = [["format", "this package's own"], ["method", metadata.method]]
    rows += [["encoder id", metadata.encoder_id or "-"]]
    rows += [[key, json.dumps(value)] for key, value in metadata.config.items()]
    return rows + [[key, value] for key, value in sorted(metadata.extra.items())]


def _clip_rows(architecture: str) -> Rows:
    return [["kind", "clip"], ["architecture", architecture], ["text tower", "yes"]]


def _vit_rows(path: Path, state: "State") -> Rows:
    from regionclip.encoders.vit_weights import told_activation, vit_spec_of

    told = told_activation(state) or "not told: QuickGELU, unless you say otherwise"
    return [*_clip_rows(vit_spec_of(state, str(path)).name), ["activation", told]]


def _eva_rows(path: Path, state: "State") -> Rows:
    from regionclip.encoders.eva_weights import eva_spec_of, eva_tensors

    return _clip_rows(eva_spec_of(eva_tensors(state, source=str(path)), str(path)).name)


def _mean_clip_rows(path: Path, state: "State") -> Rows:
    from regionclip.encoders.mean_clip_weights import mean_spec_of

    rows = _clip_rows(mean_spec_of(state, source=str(path)).name)
    return [["kind", "an encoder of RegionCLIP's zero-shot branch"], *rows[1:]]


def _prompt_rows(_path: Path, state: "State") -> Rows:
    (prompt,) = state.values()
    cells = f"{prompt.shape[0]} x {prompt.shape[1]}, one row per cell of a region and their mean"
    return [["kind", "a region prompt (CORA's), for --region-prompt"], ["prompt", cells]]


def _regionclip_rows(path: Path, state: "State") -> Rows:
    from regionclip.methods.regionclip.weights import recognise_checkpoint

    found = recognise_checkpoint(state, source=str(path))
    parts = {
        "encoder": found.encoder,
        "teacher": found.teacher,
        "proposer": found.proposer,
        "box predictor": found.box_predictor,
        "mask head": found.mask_head,
    }
    rows = [["kind", found.kind]]
    rows += [["architecture", found.spec.name]] if found.spec else []
    rows += [["text tower", "yes" if found.has_text_tower else "no"]] if found.encoder else []
    rows += [[name, f"{len(tensors)} tensors"] for name, tensors in parts.items() if tensors]
    rows += [
        [name, f"{len(tensor)} classes"]
        for name, tensor in found.box_predictor.items()
        if name in ("cls_score.weight", "test_cls_score.weight")
    ]
    if found.embeddings is not None:
        rows.append(["embeddings", f"{found.embeddings.shape[0]} x {found.embeddings.shape[1]}"])
    if found.left_over:
        rows.append(
            ["of no use here", f"{len(found.left_over)} tensors: {found.left_over[0]}, ..."]
        )
    return rows


def _fvit_rows(path: Path, state: "State") -> Rows:
    from regionclip.methods.fvit.reading import read_model

    read = read_model(path, state)
    config = read.model.config
    name = "F-VLM (CLIM's)" if config.projection else "F-ViT (CLIPSelf's)"
    return [
        ["kind", f"a detector on a frozen CLIP: {name}"],
        ["architecture", read.model.tower.name],
        ["text tower", "yes" if read.has_text_tower else "no"],
        ["masks", "yes" if config.mask_head else "no"],
        ["classes", f"{config.num_classes} {config.class_names}".strip()],
        ["trained on boxes of", config.base_classes],
        ["tensors", str(len(state))],
        ["of no use here", summary_of(read.report.left_over)],
    ]


def _detic_rows(path: Path, state: "State") -> Rows:
    from regionclip.methods.detic.reading import read_model

    read = read_model(path, state)
    config = read.model.config
    layers = "-".join(map(str, (*config.rpn.layers, config.region_blocks)))
    return [
        ["kind", "a Detic detector (CLIM's)"],
        ["image trunk", f"a ResNet of {layers} blocks, {config.rpn.width} wide"],
        ["text tower", config.text.name if read.has_text_tower else "no"],
        ["classes", f"{config.num_classes} {config.class_names}".strip()],
        ["tensors", str(len(state))],
        ["of no use here", summary_of(read.report.left_over)],
    ]


def _cascade_rows(path: Path, state: "State") -> Rows:
    from regionclip.methods.detic.cascade_reading import read_cascade

    read = read_cascade(path, state)
    config = read.model.config
    layers = "-".join(map(str, config.layers))
    return [
        ["kind", "a Detic detector with a cascade (CLIM's on LVIS)"],
        ["image trunk", f"a ResNet of {layers} blocks, {config.width} wide"],
        ["text tower", config.text.name if read.has_text_tower else "no"],
        ["masks", "yes" if config.mask_head else "no"],
        ["classes", f"{config.num_classes} {config.class_names}".strip()],
        ["tensors", str(len(state))],
        ["of no use here", summary_of(read.report.left_over)],
    ]


def _cora_rows(path: Path, state: "State") -> Rows:
    from regionclip.methods.cora.reading import read_config

    config = read_config(path, state)
    layers = f"{config.encoder_layers} encoder, {config.decoder_layers} decoder"
    return [
        ["kind", "a CORA detector"],
        ["architecture", config.encoder.name],
        ["queries", str(config.num_queries)],
        ["layers", layers],
        ["trained on boxes of", config.base_classes],
        ["tensors", str(len(state))],
    ]
