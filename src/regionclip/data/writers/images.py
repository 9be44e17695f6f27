"""Where a written data set's images are, and how they get there; the originals stay as they are."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from regionclip.data.datasets import Dataset, Sample
from regionclip.data.images import read_header

ImagePlacing = Literal["link", "copy", "none"]
"""Hard links (no space, same disk), copies, or images left where they are."""
LEFT_OUT = ("/", "..", "images")
"""Parts of names that do not become folders."""


def check_apart(output: Path, source: Path, datasets: Sequence[Dataset]) -> None:
    """See that nothing is written into what is read.

    Args:
        output: File or folder to be written.
        source: What the data sets were opened from; of a folder all in it counts as read.
        datasets: Their images' folders count as read, too.

    Raises:
        ValueError: The output exists, or would be inside.
    """
    if output.exists():
        raise ValueError(f"{output} exists; remove it, or write to another place")
    read = {source.resolve()} if source.is_dir() else set()
    read |= {path_of(each).parent for dataset in datasets for each in dataset}
    target = output.resolve()
    for folder in sorted({each.resolve() for each in read}):
        if target.is_relative_to(folder):
            raise ValueError(
                f"{output} is inside {folder}, which is read and stays as it is; write to a place "
                "outside"
            )


def path_of(sample: Sample) -> Path:
    """An image's file.

    Raises:
        ValueError: It is inside an archive.
    """
    if not isinstance(sample.image, Path):
        raise ValueError(f"{sample.name} is inside an archive; unpack it first")
    return sample.image


def size_of(sample: Sample) -> tuple[int, int]:
    """Height and width as annotated, else of the upright image.

    Raises:
        ImageReadError: They are not annotated and the image cannot be read.
    """
    return read_header(sample.image).size_hw if sample.size_hw is None else sample.size_hw


def image_names(dataset: Dataset) -> list[str]:
    """Names for images in a new folder: theirs, without the folders that all are in.

    ``..``, a leading ``/`` and folders called ``images`` are left out, for YOLO's tools look for
    labels beside the last of these.

    Raises:
        ValueError: Two would have the same name, but for the suffix.
    """
    paths = [
        PurePosixPath(*(part for part in PurePosixPath(each.name).parts if part not in LEFT_OUT))
        for each in dataset
    ]
    shared = set[PurePosixPath]().union(*(each.parents for each in paths[:1]))
    for each in paths:
        shared.intersection_update(each.parents)
    deepest = max(shared, key=lambda each: len(each.parts), default=PurePosixPath())
    names = [each.relative_to(deepest) for each in paths]
    owners: dict[PurePosixPath, str] = {}
    for name, sample in zip(names, dataset, strict=True):
        owner = owners.setdefault(name.with_suffix(""), sample.name)
        if owner != sample.name:
            raise ValueError(
                f"{dataset.source}: {owner} and {sample.name} would share one label file; rename "
                "one of them"
            )
    return [str(each) for each in names]


def relative_names(dataset: Dataset, folder: Path) -> list[str]:
    """Paths of images from a folder, with ``/``; absolute where there is none."""
    return [_relative(path_of(each), folder) for each in dataset]


def place_images(
    dataset: Dataset,
    names: Sequence[str],
    folder: Path,
    *,
    placing: ImagePlacing,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Put images into a folder.

    Args:
        dataset: Whose images.
        names: One per image, from :func:`image_names`.
        folder: Made if it is not there.
        placing: How.
        progress: Called with 1 after each image.

    Raises:
        ValueError: An image is not there or cannot be linked or copied.
    """
    for sample, name in zip(dataset, names, strict=True):
        target = folder / name
        if placing != "none":
            target.parent.mkdir(parents=True, exist_ok=True)
            place = _link if placing == "link" else shutil.copyfile
            try:
                place(path_of(sample), target)
            except OSError as error:
                way_out = "; copy images instead (--images copy)" if placing == "link" else ""
                raise ValueError(
                    f"{sample.image} cannot be put into {folder} ({error.strerror}){way_out}"
                ) from error
        if progress is not None:
            progress(1)


def _link(source: Path, target: Path) -> None:
    # of a symbolic link the file behind it: a link to a relative one would lead nowhere
    target.hardlink_to(source.resolve(strict=True))


def _relative(path: Path, folder: Path) -> str:
    # links among folders matter to "..", but a file that is one keeps its name
    whole = path.parent.resolve() / path.name
    try:
        return Path(os.path.relpath(whole, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return whole.as_posix()
