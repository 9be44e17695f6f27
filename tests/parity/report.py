"""``python -m tests.parity.report``: every golden array, compared or not, and how far off we are.

Options go to pytest: ``python -m tests.parity.report -k backbone`` compares a part.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.parity.regionclip.golden import Record

INPUTS = {
    "boxes": "input",
    "given": "input",
    "image_hw": "input",
    "output_hw": "input",
    "emb65": "input",
    "bbox_pred_weight": "input",
    "bbox_pred_bias": "input",
    "names": "input",
    "templates": "input",
    "objectness": "input",
    "deltas": "input",
    "logits": "input",
    "nms_boxes": "input",
    "nms_scores": "input",
    "nms_classes": "input",
    "gt_boxes": "input",
    "gt_classes": "input",
    "proposals": "input",
}
"""Arrays that a case starts from; listed as such where nothing compares them."""
LATER = {
    "pretrain": "region-text pretraining is not built yet",
}
"""Cases of later work, by the end of their names."""


def main(arguments: list[str]) -> int:
    """Run the parity tests and print one row per array; 1 if a comparison failed."""
    folder = Path(__file__).parent
    status = int(pytest.main(["-q", "-p", "no:cacheprovider", str(folder), *arguments]))
    # only now: pytest has to see the package first, to check types in it
    from tests.parity.regionclip import golden

    rows = list(report_rows(golden.RECORDS, golden.parity_folder() / "regionclip" / "goldens"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + "\n"
        )
    verdicts = [row[2].split(":")[0] for row in rows[1:]]
    summary = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    sys.stdout.write(json.dumps(summary) + "\n")
    return status


def report_rows(records: Iterable["Record"], goldens: Path) -> Iterable[tuple[str, ...]]:
    """A header, then case, array, verdict, largest differences and tolerance of each array."""
    worst: dict[tuple[str, str], Record] = {}
    for record in records:
        key = (record.case, record.array)
        if key not in worst or record.relative > worst[key].relative:
            worst[key] = record
    yield ("case", "array", "verdict", "absolute", "relative", "tolerance")
    for path in sorted(goldens.glob("*.npz")):
        with np.load(path) as file:
            arrays = list(file.files)
        for array in arrays:
            record = worst.get((path.stem, array))
            if record is None:
                yield (path.stem, array, _reason(path.stem, array), "", "", "")
                continue
            verdict = "compared" if record.passed else "FAILED"
            differences = (f"{record.absolute:.1e}", f"{record.relative:.1e}")
            yield (path.stem, array, verdict, *differences, record.tolerance)


def _reason(case: str, array: str) -> str:
    for ending, reason in LATER.items():
        if case.endswith(ending):
            return f"not compared: {reason}"
    if array in INPUTS:
        return "input"
    if case == "rn50x4_backbone" and array.startswith("real_res4"):
        return "not compared: the file holds zeros here"
    return "not compared: no test does"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
