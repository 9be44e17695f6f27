"""What a checkpoint of any known layout holds, in the rows of a table."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def summary_of(names: Sequence[str]) -> str:
    """How many there are, by what they begin with."""
    if not names:
        return "0"
    counts = Counter(name.split(".")[0] for name in names)
    return f"{len(names)}: " + ", ".join(f"{count} of {name}" for name, count in counts.items())


def file_rows(path: Path) -> list[list[str]]:
    """What a checkpoint holds, part by part."""
    from regionclip.checkpoints import is_native, read_checkpoint, read_native_metadata
    from regionclip.encoders.eva_weights import eva_spec_of, eva_tensors, is_eva_clip
    from regionclip.encoders.vit_weights import is_clip_vit, told_activation, vit_spec_of
    from regionclip.methods.cora.weights import is_cora, is_region_prompt
    from regionclip.methods.detic.cascade_weights import is_original as is_cascade
    from regionclip.methods.detic.weights import is_original as is_detic
    from regionclip.methods.regionclip.weights import recognise_checkpoint

    if is_native(path):
        metadata = read_native_metadata(path)
        rows = [["format", "this package's own"], ["method", metadata.method]]
        rows += [["encoder id", metadata.encoder_id or "-"]]
        rows += [[key, json.dumps(value)] for key, value in metadata.config.items()]
        return rows + [[key, value] for key, value in sorted(metadata.extra.items())]
    state = read_checkpoint(path)
    if is_clip_vit(state):
        spec = vit_spec_of(state, str(path))
        told = told_activation(state) or "not told: QuickGELU, unless you say otherwise"
        rows = [["kind", "clip"], ["architecture", spec.name], ["text tower", "yes"]]
        return [*rows, ["activation", told]]
    if is_eva_clip(state):
        spec = eva_spec_of(eva_tensors(state, source=str(path)), str(path))
        return [["kind", "clip"], ["architecture", spec.name], ["text tower", "yes"]]
    if is_region_prompt(state):
        (prompt,) = state.values()
        cells = (
            f"{prompt.shape[0]} x {prompt.shape[1]}, one row per cell of a region and their mean"
        )
        return [["kind", "a region prompt (CORA's), for --region-prompt"], ["prompt", cells]]
    if is_cora(state):
        return _cora_rows(path, state)
    if is_detic(state):
        return _detic_rows(path, state)
    if is_cascade(state):
        return _cascade_rows(path, state)
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


def _detic_rows(path: Path, state: "Mapping[str, Tensor]") -> list[list[str]]:
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


def _cascade_rows(path: Path, state: "Mapping[str, Tensor]") -> list[list[str]]:
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


def _cora_rows(path: Path, state: "Mapping[str, Tensor]") -> list[list[str]]:
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
