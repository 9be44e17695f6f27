"""``regionclip data convert``: a data set in another format."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, progress
from regionclip.cli.options import optional, value
from regionclip.whole_files import new_folder, replacing

if TYPE_CHECKING:
    from regionclip.data.datasets import Dataset
    from regionclip.data.readers.opening import Format


@dataclass(frozen=True, kw_only=True)
class DataConvert:
    """Write a data set as COCO json or as a YOLO folder; what is read stays as it is.

    Exit code 1: boxes were left out, as a YOLO folder has no crowds; the numbers are printed and
    stand in data.yaml.

    For example:

        regionclip data convert VOC2007 --split train --to coco --output train.json

        regionclip data convert my --split train val --to yolo --output my_yolo
    """

    source: Annotated[Positional[Path], value("SOURCE")]
    """A data set with boxes, as 'regionclip data check' takes it."""
    to: Literal["coco", "yolo"]
    """Format to write."""
    output: Annotated[Path, value("PATH")]
    """A new folder; for one COCO json a file ending in .json. Neither may exist, or lie in a folder
    that is read."""
    split: Annotated[tuple[str, ...], optional("NAME...")] = ()
    """Parts of a folder: train val ... A YOLO folder calls a single part without a name train."""
    images: Annotated[Literal["link", "copy", "none"] | None, optional("{link,copy,none}")] = None
    """Put images into the new folder as hard links (no space, same disk) or copies, or not. By
    default link for YOLO and none for COCO, whose file names then lead to where the images are."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images are; by default where the format has them, or near the annotation file."""

    def run(self) -> int:
        """Read, write, say what was done."""
        from regionclip.data.readers.opening import locate, open_dataset
        from regionclip.data.writers import check_apart

        is_file = self.to == "coco" and self.output.suffix.lower() == ".json"
        if is_file and self.images in ("link", "copy"):
            raise UsageError(f"--images {self.images} needs a folder; --output is {self.output}")
        if is_file and len(self.split) > 1:
            raise UsageError(f"several splits need a folder; --output is {self.output}")
        splits = dict.fromkeys(self.split) or {None: None}
        location = locate(self.source, next(iter(splits)))
        datasets = {
            split or "": open_dataset(self.source, image_root=self.image_root, split=split)
            for split in splits
        }
        is_yaml = location.format == "yolo" and self.source.is_file()
        source = self.source.parent if is_yaml else self.source
        check_apart(self.output, source, list(datasets.values()))
        if self.to == "yolo":
            return self._write_yolo(datasets)
        if is_file:
            self._write_json(next(iter(datasets.values())), location.format)
        else:
            self._write_coco(datasets, location.format)
        return 0

    def _write_json(self, dataset: "Dataset", origin: "Format") -> None:
        from regionclip.data.writers import relative_names, written_coco

        names = relative_names(dataset, self.output.absolute().parent)
        content = written_coco(dataset, names, origin=origin)
        with replacing(self.output) as file:
            file.write_text(json.dumps(content), encoding="utf-8")
        _say(self.output, content["info"]["conversion"])

    def _write_coco(self, datasets: "Mapping[str, Dataset]", origin: "Format") -> None:
        from regionclip.data.writers import (
            image_names,
            place_images,
            relative_names,
            written_coco,
        )

        placing = self.images or "none"
        notes: list[str] = []
        with new_folder(self.output) as folder, _progress(datasets) as advance:
            for split, dataset in datasets.items():
                names = relative_names(dataset, folder)
                if placing != "none":
                    names = image_names(dataset)
                    inside = Path("images") / split
                    place_images(dataset, names, folder / inside, placing=placing, progress=advance)
                    names = [(inside / each).as_posix() for each in names]
                content = written_coco(dataset, names, origin=origin)
                name = f"instances_{split}.json" if split else "instances.json"
                (folder / name).write_text(json.dumps(content), encoding="utf-8")
                notes += [each for each in content["info"]["conversion"] if each not in notes]
        _say(self.output, notes)

    def _write_yolo(self, datasets: "Mapping[str, Dataset]") -> int:
        from regionclip.data.writers import write_yolo

        named = {split or "train": dataset for split, dataset in datasets.items()}
        with new_folder(self.output) as folder, _progress(datasets) as advance:
            losses = write_yolo(folder, named, placing=self.images or "link", progress=advance)
        _say(self.output, [f"{each}." for each in losses.sentences()])
        if self.images == "none":
            console.print("- Labels only; put the images into images/ with the same names.")
        return 1 if losses.num_left_out else 0


def _progress(
    datasets: "Mapping[str, Dataset]",
) -> AbstractContextManager[Callable[..., None]]:
    return progress("Writing", sum(map(len, datasets.values())))


def _say(output: Path, notes: list[str]) -> None:
    console.print(f"written to {output}", markup=False, soft_wrap=True)
    for each in notes:
        console.print(f"- {each}", markup=False, soft_wrap=True)
