"""``regionclip data split``: base and novel classes, and a validation set."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, print_table, progress
from regionclip.cli.options import optional, value
from regionclip.whole_files import replacing

if TYPE_CHECKING:
    from regionclip.data.datasets import Dataset
    from regionclip.data.readers.opening import Location

Contents = dict[str, Mapping[str, Any]]
"""What to write, by file name."""


@dataclass(frozen=True, kw_only=True)
class DataSplit:
    """Write parts of a data set as COCO jsons: base and novel classes, or training and validation.

    Published splits (--benchmark) come from the official jsons and leave out images without a box
    of theirs, as papers do. Your own classes (--novel, --novel-share) give three files: base to
    train on, without images that have novel objects only; novel and all to evaluate on, with every
    image.

    For example:

        regionclip data split coco --benchmark ov-coco --output coco/annotations

        regionclip data split lvis/lvis_v1_train.json --benchmark ov-lvis --output lvis

        regionclip data split my --split train val --novel "tram, kiosk" --output splits

        regionclip data split my/instances.json --val-share 0.2 --output splits
    """

    source: Annotated[Positional[Path], value("SOURCE")]
    """A data set with boxes, as 'regionclip data check' takes it; for --benchmark an official json,
    or the folder with annotations/instances_{train,val}2017.json."""
    output: Annotated[Path, value("FOLDER")]
    """Where to write; file names begin with that of the source."""
    split: Annotated[tuple[str, ...], optional("NAME...")] = ()
    """Parts of a folder, each split in the same way: train val ... By default both of COCO."""
    benchmark: Annotated[Literal["ov-coco", "ov-lvis"] | None, optional("{ov-coco,ov-lvis}")] = None
    """COCO's 48 base and 17 novel classes (files as OVR-CNN has them), or LVIS's 866 and 337."""
    novel: Annotated[str | None, optional("NAMES|FILE")] = None
    """Your own novel classes: 'cat, remote control', or a file with one per line."""
    novel_share: Annotated[float | None, optional("SHARE")] = None
    """Choose this share of the classes to be novel, such as 0.25; the same in all files."""
    val_share: Annotated[float | None, optional("SHARE")] = None
    """First split off this share of the images as a validation set, such as 0.2."""
    seed: Annotated[int, value("N")] = 0
    """Another one chooses other classes and images; the same chooses the same."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images are; by default where the format has them, or near the annotation file."""
    overwrite: bool = False
    """Replace files that are there."""

    def run(self) -> int:
        """Read, split, write, say what is where."""
        self._check_options()
        splits = self.split or (
            (None,) if self.source.is_file() or not self.benchmark else OFFICIAL
        )
        contents: Contents = {}
        for split in splits:
            contents |= self._benchmark(split) if self.benchmark else self._own(split)
        there = [name for name in contents if (self.output / name).exists()]
        if there and not self.overwrite:
            raise UsageError(
                f"{', '.join(there)} exist in {self.output}; write to another folder, or give "
                "--overwrite"
            )
        with progress("Writing", len(contents)) as advance:
            for name, content in contents.items():
                with replacing(self.output / name) as file:
                    file.write_text(json.dumps(content), encoding="utf-8")
                advance(1)
        _say(self.output, contents)
        if self.benchmark is not None:
            console.print(
                "Images are named as in the official json: --image-root says where they are."
            )
        return 0

    def _check_options(self) -> None:
        own = [self.novel, self.novel_share, self.val_share]
        if self.benchmark is None and own == [None] * 3:
            raise UsageError("say how to split: --benchmark, --novel, --novel-share or --val-share")
        if self.benchmark is not None and own != [None] * 3:
            raise UsageError("--benchmark fixes classes and images; leave out the other options")
        if self.novel is not None and self.novel_share is not None:
            raise UsageError("--novel and --novel-share both choose novel classes; give one")
        for name in ("novel_share", "val_share"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be between 0 and 1, got {share:g}")

    def _benchmark(self, split: str | None) -> Contents:
        from regionclip.data.readers.coco import read_content
        from regionclip.data.readers.opening import locate
        from regionclip.data.splitting import BENCHMARKS, benchmark_parts

        location = locate(self.source, split)
        if location.format != "coco" or self.benchmark is None:
            raise UsageError(f"{self.source} is no official json, which --benchmark needs")
        try:
            parts = benchmark_parts(read_content(location.path), self.benchmark)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{location.path} is no valid COCO json ({type(error).__name__}: {error}); "
                "'regionclip data check' lists what is wrong with it"
            ) from error
        except ValueError as error:
            raise ValueError(f"{location.path}: {error}") from error
        benchmark = BENCHMARKS[self.benchmark]
        return {
            benchmark.file_name(location.path.stem, part): content
            for part, content in parts.items()
        }

    def _own(self, split: str | None) -> Contents:
        from regionclip.data.readers.opening import locate, open_dataset
        from regionclip.data.splitting import choose_images, image_parts

        dataset = open_dataset(self.source, image_root=self.image_root, split=split)
        content = self._content_of(dataset, locate(self.source, split))
        is_file = self.source.is_file()
        name = (
            self.source.stem.removeprefix("instances_") if is_file else self.source.resolve().name
        )
        contents: Contents = {f"{name}_{split}" if split else name: content}
        if self.val_share is not None:
            names = [each.name for each in dataset]
            chosen = choose_images(names, self.val_share, seed=self.seed)
            contents = _parted(contents, lambda whole: image_parts(whole, chosen))
        if self.novel is not None or self.novel_share is not None:
            contents = _parted(contents, self._class_parts)
        return {f"{stem}.json": own for stem, own in contents.items()}

    def _content_of(self, dataset: "Dataset", location: "Location") -> Mapping[str, Any]:
        """COCO's dictionary, whose file names lead from the output folder to the images."""
        from regionclip.data.readers.coco import read_content
        from regionclip.data.writers import relative_names, written_coco

        names = relative_names(dataset, self.output)
        if location.format != "coco":
            return written_coco(dataset, names, origin=location.format)
        # not the data set as COCO's dictionary: the file may say more than the type knows
        content = read_content(location.path)
        images = [
            {**image, "file_name": name}
            for image, name in zip(content["images"], names, strict=True)
        ]
        return {**content, "images": images}

    def _class_parts(self, content: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        from regionclip.cli.classes import parse_names
        from regionclip.data.readers.coco import category_of
        from regionclip.data.splitting import choose_novel, class_parts

        categories = [category_of(each) for each in content.get("categories", ())]
        names = [each.name for each in categories]
        if self.novel is not None:
            novel = parse_names(self.novel)
        else:
            novel = choose_novel(names, self.novel_share or 0.0, seed=self.seed)
        return class_parts(content, {each.name: each.id for each in categories}, novel)


def _parted(
    contents: Contents, part: Callable[[Mapping[str, Any]], Mapping[str, Mapping[str, Any]]]
) -> Contents:
    return {
        f"{stem}_{name}": own
        for stem, whole in contents.items()
        for name, own in part(whole).items()
    }


OFFICIAL = ("train", "val")
"""Parts of COCO that a benchmark has."""


def _say(output: Path, contents: Contents) -> None:
    rows = [
        (
            name,
            *(str(len(content.get(key, ()))) for key in ("images", "annotations", "categories")),
        )
        for name, content in contents.items()
    ]
    print_table(str(output), ("file", "images", "annotations", "classes"), rows)
    for name, content in contents.items():
        console.print(f"- {name}: {content['info']['split']}", markup=False, soft_wrap=True)
