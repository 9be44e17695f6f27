"""``python -m tests.parity.report``: every golden array, compared or not, and how far off we are.

Options go to pytest: ``python -m tests.parity.report -k backbone`` compares a part.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.parity.comparing import Record

FOLDER = Path(__file__).parent
FORGOTTEN = "not compared: no test does"
INPUTS: Mapping[str, tuple[str, ...]] = {
    "regionclip": (
        "boxes",
        "given",
        "image_hw",
        "output_hw",
        "emb65",
        "bbox_pred_weight",
        "bbox_pred_bias",
        "names",
        "templates",
        "objectness",
        "deltas",
        "logits",
        "nms_boxes",
        "nms_scores",
        "nms_classes",
        "gt_boxes",
        "gt_classes",
        "proposals",
    ),
    "cora": (
        "class_embeddings",
        "boxes_cxcywh",
        "batch2_boxes",
        "target_size",
        "names",
        "raw_texts",
        "target*_boxes",
        "target*_labels",
        "split_rand",
        "image_hw",
        "image_seeds",
        "gt_json",
        "img*_hw",
        "img*_ann_xywh",
        "img*_boxes",
        "img*_scores",
        "img*_labels",
    ),
    "clim": (
        "boxes",
        "quickgelu_boxes",
        "gelu_boxes",
        "normed_boxes",
        "masks",
        "masks_shape",
        "det_size",
        "appeared",
        "macc_correct",
        "macc_labels",
        "macc_thing",
        "lr_steps",
        "size",
        "rois",
        "loss_labels",
        "loss_labels_base",
        "kept_keys",
        "cap_tokens",
    ),
}
"""By system, arrays that a case starts from; listed as such where nothing compares them."""
NOT_COMPARED: Mapping[str, str] = {
    "regionclip/rn50x4_backbone/real_res4*": "the file holds zeros here",
    "cora/*_loss_class_error": "logged only: with one class always 0",
    "cora/*_loss_cardinality_error*": "logged only: the mean number of objects",
    "cora/*_train/plain_memory_stats": "with cells of padding, which nobody sees",
    "cora/rn50_train_curve/seconds_total": "how long the original took",
    "clim/toy_data/eval_correct_*": "needs the original's vectors of all 133 names",
    "clim/loss_clipself/no_grad_trainable": "names, compared by tests/parity/clim",
    "clim/toy_data/eval_metrics": "all are 0",
    "clim/toy_data/pan*_masked_crop_stats": "the original computes these crops and never looks",
}
"""Why, by system, case and array."""


def main(arguments: list[str]) -> int:
    """Run the parity tests and print one row per array.

    Returns:
        1 if a comparison failed, or if all were asked for and an array is neither compared nor
        said to be an input or left out for a reason.
    """
    status = int(pytest.main(["-q", "-p", "no:cacheprovider", str(FOLDER), *arguments]))
    # only now: pytest has to see the package first, to check types in it
    from tests.parity import comparing

    rows = list(report_rows(comparing.RECORDS, comparing.parity_folder(), tested_systems()))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + "\n"
        )
    verdicts = [row[3].split(":")[0] for row in rows[1:]]
    summary = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    sys.stdout.write(json.dumps(summary) + "\n")
    is_forgotten = any(row[3] == FORGOTTEN for row in rows)
    return 1 if status == 0 and is_forgotten and not arguments else status


def tested_systems() -> list[str]:
    """Those with comparisons of their own beside this file."""
    return sorted({path.parent.name for path in FOLDER.glob("*/test_*.py")})


def report_rows(
    records: Iterable["Record"], parity: Path, systems: Iterable[str]
) -> Iterator[tuple[str, ...]]:
    """A header, then a row per array: system, case, array, verdict, largest differences, tolerance.

    Args:
        records: What was compared.
        parity: With ``<system>/goldens/<case>.npz``.
        systems: Those to list.
    """
    worst: dict[tuple[str, str, str], Record] = {}
    parts: dict[tuple[str, str, str], dict[str, None]] = {}
    for record in records:
        # parts of an array are compared one by one
        array, bracket, part = record.array.partition("[")
        key = (record.system, record.case, array)
        parts.setdefault(key, {})[bracket + part] = None
        if key not in worst or record.relative > worst[key].relative:
            worst[key] = record
    yield ("system", "case", "array", "verdict", "absolute", "relative", "tolerance")
    for system in systems:
        for path in sorted((parity / system / "goldens").glob("*.npz")):
            with np.load(path) as file:
                arrays = list(file.files)
            for array in arrays:
                key = (system, path.stem, array)
                yield (*key, *_verdict(key, worst.get(key), list(parts.get(key, ()))))


def _verdict(
    key: tuple[str, str, str], record: "Record | None", parts: Sequence[str]
) -> tuple[str, str, str, str]:
    """What is said of an array; the parts, where never all of it was compared at once."""
    if record is None:
        return (_reason(*key), "", "", "")
    verdict = "compared" if record.passed else "FAILED"
    if "" not in parts:
        verdict += f": {' '.join(parts)}"
    return (verdict, f"{record.absolute:.1e}", f"{record.relative:.1e}", record.tolerance)


def _reason(system: str, case: str, array: str) -> str:
    if any(fnmatchcase(array, pattern) for pattern in INPUTS.get(system, ())):
        return "input"
    for pattern, reason in NOT_COMPARED.items():
        if fnmatchcase(f"{system}/{case}/{array}", pattern):
            return f"not compared: {reason}"
    return FORGOTTEN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
