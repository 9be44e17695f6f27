"""From what ``--data`` names to the data sets that a protocol evaluates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.cli.console import UsageError

if TYPE_CHECKING:
    from regionclip.data.datasets import Dataset
    from regionclip.evaluation.diverse_weather import TargetList

SINGLE = "data"
"""What the one data set of most protocols is called."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """How data sets are opened."""

    image_root: Path | None
    """Folder of the images of a json."""
    split: str | None
    """Part of a folder."""
    target_list: "TargetList"
    """Diverse Weather's list of the target domains."""


def open_sets(source: str, protocol: str, options: DataOptions) -> "dict[str, Dataset]":
    """The data sets by name; :data:`SINGLE` for protocols of one.

    Raises:
        ValueError: The source is not what the protocol needs.
    """
    return OPENERS.get(protocol, _single)(Path(source), options)


def check_images(sets: "Mapping[str, Dataset]") -> None:
    """Refuse data of which no image is where it should be, before a model is read.

    Raises:
        UsageError: Not one file of a data set is there.
    """
    from regionclip.evaluation.finding import source_of

    for dataset in sets.values():
        if len(dataset) and not any(source_of(sample).file.exists() for sample in dataset):
            raise UsageError(
                f"none of the {len(dataset)} images of {dataset.source} is there (the first: "
                f"{dataset[0].image}); say which folder they are in with --image-root"
            )


def _single(path: Path, options: DataOptions) -> "dict[str, Dataset]":
    from regionclip.data.readers import open_dataset

    return {SINGLE: open_dataset(path, image_root=options.image_root, split=options.split)}


def _domains(folder: Path, options: DataOptions) -> "dict[str, Dataset]":
    """``<domain>.json``, or a folder of the domain with its lists."""
    from regionclip.data.readers import open_dataset
    from regionclip.evaluation.diverse_weather import DOMAINS, list_of, with_same_classes

    if options.split is not None:
        raise UsageError(
            "--split: Diverse Weather is tested on the source's list 'test' and on the targets' "
            "--target-list"
        )
    found = {}
    for domain in DOMAINS:
        json = folder / f"{domain}.json"
        if json.is_file():
            found[domain] = open_dataset(json, image_root=options.image_root)
        elif (folder / domain).is_dir():
            which = list_of(domain, options.target_list)
            found[domain] = open_dataset(
                folder / domain, image_root=options.image_root, split=which
            )
    if not found:
        raise UsageError(
            f"--data {folder}: has no domain of Diverse Weather; expected folders or jsons called "
            f"{', '.join(DOMAINS)}"
        )
    return with_same_classes(found)


def _sets(folder: Path, options: DataOptions) -> "dict[str, Dataset]":
    from regionclip.data.readers.coco import read_coco
    from regionclip.evaluation.odinw import find_sets

    if not folder.is_dir():
        raise UsageError(f"--data {folder}: is no folder of data sets")
    return {
        name: read_coco(path, image_root=options.image_root)
        for name, path in find_sets(folder, options.split or "").items()
    }


OPENERS: "Mapping[str, Callable[[Path, DataOptions], dict[str, Dataset]]]" = {
    "diverse-weather": _domains,
    "odinw": _sets,
}
"""Of protocols with several data sets."""
