"""ODinW and its like: many data sets with classes of their own, and the plain mean over them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from regionclip.data.datasets import Dataset
from regionclip.structures import Detections

from .coco import evaluate_coco
from .report import EvaluationReport, SplitCounts, Table, mean_of, percent

PREFERRED = "annotations_without_background.json"
"""What ODinW calls the file that is evaluated on. Source: microsoft/GLIP ``configs/odinw_13``."""
FIGURES = ("ap", "ap50", "ap75", "ar100")


def evaluate_odinw(
    datasets: Mapping[str, Dataset], detections: Mapping[str, Iterable[Detections]]
) -> EvaluationReport:
    """COCO AP of each data set, and the mean over sets, whatever their size.

    Args:
        datasets: By name.
        detections: By name, as :func:`~.coco.evaluate_coco` takes them.

    Raises:
        ValueError: There is no set, or detections are missing or of other classes.

    Source:
        Li et al., GLIP (arXiv:2112.03857), sec. 5.3.
    """
    if not datasets:
        raise ValueError("there is no data set to take a mean over")
    missing = [name for name in datasets if name not in detections]
    if missing:
        raise ValueError(f"there are no detections of the data set {missing[0]}")
    parts = {name: evaluate_coco(own, detections[name]) for name, own in datasets.items()}
    metrics = {
        figure: mean_of([part.metrics[figure] for part in parts.values()]) for figure in FIGURES
    }
    metrics |= {f"ap_{name}": part.metrics["ap"] for name, part in parts.items()}
    table = Table(
        "By data set (percent)",
        ("data set", "classes", "images", "boxes", *FIGURES),
        tuple(_row(name, part) for name, part in parts.items()),
    )
    empty = [name for name, part in parts.items() if part.splits[0].num_boxes == 0]
    return EvaluationReport(
        protocol="odinw",
        sentence=(
            f"Object detection in the wild: the unweighted mean over {len(parts)} data sets of "
            "COCO's figures (IoU 0.50, 0.55, ..., 0.95), each set with its own classes."
        ),
        source=f"{len(parts)} data sets",
        num_images=sum(part.num_images for part in parts.values()),
        splits=tuple(
            SplitCounts(name, own.num_classes, own.num_images, own.num_boxes)
            for name, part in parts.items()
            for own in part.splits[:1]
        ),
        metrics=metrics,
        tables=(table,),
        notes=(f"Without a box, and so not in the mean: {', '.join(empty)}.",) if empty else (),
        parts=tuple(parts.values()),
    )


def find_sets(folder: Path, split: str) -> dict[str, Path]:
    """COCO jsons of the data sets below a folder, by name.

    A set is a folder whose ``split`` (``test``, ``valid``) holds its json; or, for a ``split`` of
    "", a folder with one json in it or a json directly in ``folder``.

    Args:
        folder: Searched with its folders.
        split: Name of the folder that holds a set's json.

    Returns:
        By the set's path below ``folder``, sorted.

    Raises:
        ValueError: There is none, or a set has several jsons of which none is preferred.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.json")):
        if split and path.parent.name != split:
            continue
        home = path.parent.parent if split else path.parent
        own = home.relative_to(folder).as_posix()
        is_single_file = not split and home == folder
        found.setdefault(path.stem if is_single_file else own, []).append(path)
    sets = {}
    for name, paths in found.items():
        preferred = [path for path in paths if path.name == PREFERRED]
        if len(paths) > 1 and len(preferred) != 1:
            raise ValueError(
                f"{name} in {folder} has several jsons ({paths[0].name}, {paths[1].name}); say "
                "which folder is evaluated with --split, or call the right one "
                f"{PREFERRED}"
            )
        sets[name] = (preferred or paths)[0]
    if not sets:
        inside = f" inside folders called {split}" if split else ""
        raise ValueError(f"{folder} holds no COCO json{inside}; give a folder of data sets")
    return sets


def _row(name: str, part: EvaluationReport) -> tuple[str, ...]:
    own = part.splits[0]
    counts = (str(own.num_classes), str(part.num_images), str(own.num_boxes))
    return (name, *counts, *(percent(part.metrics[figure]) for figure in FIGURES))
