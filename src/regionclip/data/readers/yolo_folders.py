"""YOLO folders: where their classes, images and labels are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from regionclip.data.datasets import Category
from regionclip.data.sources import IMAGE_SUFFIXES

SPLITS = ("train", "val", "valid", "test")
"""Keys of a ``data.yaml`` and names of folders that hold a part of the images."""
SAME_SPLIT = ("val", "valid", "validation")
"""What people call the validation set."""
NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names")


@dataclass(frozen=True, slots=True)
class YoloFolder:
    """A YOLO data set.

    Attributes:
        root: What errors call it.
        categories: In the order of their numbers, from 0.
        splits: Folders of images, or texts with one image per line, by split; under ``""`` if the
            images are not parted.
        image_root: What image names start from.
    """

    root: Path
    categories: tuple[Category, ...]
    splits: Mapping[str, tuple[Path, ...]]
    image_root: Path

    def images(self, split: str | None) -> list[Path]:
        """The images of a split, sorted within each folder, in the order of each text.

        Raises:
            ValueError: The split is not there, or there are several and none is named.
        """
        known = ", ".join(self.splits)
        if split is None and len(self.splits) > 1:
            raise ValueError(f"{self.root} has several splits; choose one: {known}")
        name = next(iter(self.splits)) if split is None else spelling_of(split, self.splits)
        if name is None:
            raise ValueError(
                f"{self.root} has no split {split!r}; its splits are: {known or 'none'}"
            )
        found = [image for place in self.splits[name] for image in self._images_in(place)]
        return list(dict.fromkeys(found))

    def _images_in(self, place: Path) -> list[Path]:
        if place.is_dir():
            return images_below(place)
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{place}, which {self.root} names, is neither a folder of images nor a text that "
                f"lists them: {error}"
            ) from error
        named = [line.strip() for line in lines if line.strip()]
        return [_first_there(self.image_root / each, place.parent / each) for each in named]


def is_yolo(path: Path) -> bool:
    """Whether ``path`` is a YOLO folder, or the yaml of one."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    has_both = [(each / "images").is_dir() and (each / "labels").is_dir() for each in _parts(path)]
    return any(has_both) or _yaml_in(path) is not None


def open_yolo(path: Path, image_root: str | Path | None = None) -> YoloFolder:
    """Find the parts of a YOLO data set.

    Args:
        path: A folder, or its yaml.
        image_root: What its image folders start from; by default what the yaml's ``path`` says, if
            that is there, else the folder.

    Raises:
        ValueError: It is none, or its classes have no names.
    """
    file = path if path.is_file() else _yaml_in(path)
    if file is not None:
        return _from_yaml(file, None if image_root is None else Path(image_root))
    root = path if image_root is None else Path(image_root)
    splits = {
        each.name if each != root else "": (each / "images",)
        for each in _parts(root)
        if (each / "images").is_dir()
    }
    if list(splits) == [""]:
        inside = {name: (root / "images" / name,) for name in SPLITS}
        splits = {name: each for name, each in inside.items() if each[0].is_dir()} or splits
    return YoloFolder(path, _categories(_names_beside(path), path), splits, root)


def spelling_of(split: str, splits: Mapping[str, object]) -> str | None:
    """The split of that name, where ``val``, ``valid`` and ``validation`` are the same."""
    candidates = (split, *SAME_SPLIT) if split in SAME_SPLIT else (split,)
    return next((each for each in candidates if each in splits), None)


def images_below(folder: Path) -> list[Path]:
    """All images in a folder and its folders, sorted, without hidden ones."""
    return [
        each
        for each in sorted(folder.rglob("*"))
        if each.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in each.relative_to(folder).parts)
        and each.is_file()
    ]


def label_file(image: Path) -> Path:
    """The text with an image's boxes: in ``labels`` instead of ``images``, else beside it."""
    parts = list(image.parent.parts)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts) / f"{image.stem}.txt"


def _parts(path: Path) -> list[Path]:
    return [path, *(path / name for name in SPLITS)]


def _yaml_in(folder: Path) -> Path | None:
    """``data.yaml``, or the only yaml there that names classes."""
    if (folder / "data.yaml").is_file():
        return folder / "data.yaml"
    files = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))]
    naming = [each for each in files if "names" in _quietly_read(each)]
    return naming[0] if len(naming) == 1 else None


def _from_yaml(file: Path, image_root: Path | None) -> YoloFolder:
    content = _read_yaml(file)
    if not isinstance(content.get("names"), list | dict):
        raise ValueError(f"{file} has no names; write them as 'names: [cat, dog]'")
    if image_root is None:
        base = content.get("path")
        named = file.parent / base if isinstance(base, str) else file.parent
        # often a folder of the machine that the set was made on
        image_root = named if named.is_dir() else file.parent
    splits = {}
    for name in SPLITS:
        entry: Any = content.get(name)
        if not entry:
            continue
        places = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(each, str) for each in places):
            raise ValueError(f"{file}: {name} is no path and no list of paths")
        splits[name] = tuple(_place(image_root, file.parent, each) for each in places)
    if not splits:
        raise ValueError(f"{file} names no images; write 'train: images/train', and val and test")
    return YoloFolder(file, _categories(content["names"], file), splits, image_root)


def _place(image_root: Path, folder: Path, name: str) -> Path:
    # Roboflow writes ../train/images for what is in train/images
    inside = name.removeprefix("../")
    return _first_there(image_root / name, folder / name, image_root / inside, folder / inside)


def _first_there(*paths: Path) -> Path:
    return next((each for each in paths if each.exists()), paths[0])


def _read_yaml(file: Path) -> dict[str, Any]:
    """A yaml's mapping, all values as text: a class may be called ``no`` or ``010``.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be read as yaml: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no YOLO yaml: expected keys such as names and train")
    return content


def _quietly_read(file: Path) -> dict[str, Any]:
    try:
        return _read_yaml(file)
    except ValueError:
        return {}


def _names_beside(folder: Path) -> list[str]:
    for name in NAME_FILES:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8-sig", errors="replace")
            return [line.strip() for line in text.splitlines() if line.strip()]
    raise ValueError(
        f"{folder} has images and labels but no names of its classes; add a data.yaml with "
        "'names: [cat, dog]', or a classes.txt with one name per line"
    )


def _categories(names: Sequence[Any] | Mapping[str, Any], source: Path) -> tuple[Category, ...]:
    numbered = names.items() if isinstance(names, Mapping) else enumerate(names)
    try:
        by_number = sorted((int(number), name) for number, name in numbered)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{source}: names must be numbered 0, 1, ... or be a plain list"
        ) from error
    for number, name in by_number:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{source}: class {number} has no name")
    return tuple(Category(name.strip(), number) for number, name in by_number)
