"""From what a user names (files, folders, patterns, COCO jsons) to a list of images."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from regionclip.structures import ImageSource

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)
"""What is taken from a folder; a file that is named itself is always tried."""
VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".ts", ".webm", ".wmv"),
)
"""What is read frame by frame when it is named; folders are searched for images only."""
PATTERN = re.compile(r"[*?\[]")
SUBSET = re.compile(r"(?:instances|captions|ovd_ins)_(.+?)(?:_(?:b|t|all))?")
"""Names of COCO's annotation files and of OVR-CNN's splits of them, as ``ovd_ins_val2017_all``: the
images are in a folder ``val2017``."""


@dataclass(frozen=True, slots=True)
class NamedSource:
    """One image to read, and what to call it.

    Attributes:
        name: Its path, or its path and frame; unique within a list.
        file: The file it is in.
        image: What :func:`~regionclip.data.images.read_image` takes; a video is a path as well,
            until :func:`~regionclip.data.video.with_frames` has read it.
        relative: Path with ``/`` below the folder, pattern or COCO json it was found through: where
            results of its own go. Not always unique.
        image_id: The COCO json's id, for images that come from one.
    """

    name: str
    file: Path
    image: ImageSource
    relative: str
    image_id: int | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is a whole video, by its suffix."""
        is_file = isinstance(self.image, str | Path)
        return is_file and self.file.suffix.lower() in VIDEO_SUFFIXES


def find_images(
    inputs: Sequence[str | Path],
    *,
    image_root: str | Path | None = None,
    exclude: str | Path | None = None,
) -> list[NamedSource]:
    """List the images that ``inputs`` mean, in their order, each file once.

    Args:
        inputs: Each one of

            - a file: kept even if it is missing or no image, so that reading it says so;
            - a folder: the images in it and in its folders, sorted by path, without hidden files
              and folders;
            - a pattern such as ``photos/**/*.jpg``: what it matches, sorted, hidden files if the
              pattern names them with a dot;
            - a COCO json (by its suffix): the images it lists, in its order.
        image_root: Folder of a COCO json's ``file_name`` entries; by default the json's own or one
            near it (:func:`find_image_root`).
        exclude: Folder that is not searched, such as the one results are written to.

    Raises:
        ValueError: An input gives no image at all, or a COCO json is not one.
    """
    excluded = None if exclude is None else Path(exclude).resolve()
    found: dict[Path, NamedSource] = {}
    for text in map(str, inputs):
        is_empty = True
        for source in _sources_of(text, image_root):
            key = source.file.absolute()
            if excluded is not None and _is_found_below(key, text, excluded):
                continue
            is_empty = False
            found.setdefault(key, source)
        if is_empty:
            raise ValueError(_nothing_in(text))
    return list(found.values())


def coco_category_ids(path: str | Path) -> dict[str, int]:
    """Category ids of a COCO json by name; none if it lists no categories.

    Raises:
        ValueError: The file is no json, or a category has no name or id.
    """
    categories = _read_coco(Path(path)).get("categories", [])
    try:
        return {str(category["name"]): int(category["id"]) for category in categories}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a category without name or id") from error


def _sources_of(text: str, image_root: str | Path | None) -> Iterator[NamedSource]:
    path = Path(text)
    if path.is_dir():
        yield from _in_folder(path, path)
    elif path.suffix.lower() == ".json":
        yield from _in_coco(path, image_root)
    elif PATTERN.search(text) and not path.exists():
        yield from _matching(text)
    else:
        yield NamedSource(text, path, path, path.name)


def _in_folder(folder: Path, root: Path) -> Iterator[NamedSource]:
    for path in sorted(folder.rglob("*")):
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
        if is_image and not _is_hidden(path.relative_to(folder)):
            yield NamedSource(str(path), path, path, path.relative_to(root).as_posix())


def _matching(pattern: str) -> Iterator[NamedSource]:
    parts = Path(pattern).parts
    num_fixed = next(index for index, part in enumerate(parts) if PATTERN.search(part))
    root = Path(*parts[:num_fixed])
    own = str(Path(*parts[num_fixed:]))
    for path in sorted(root.glob(own)):
        if _is_hidden(path.relative_to(root)) and not _is_hidden(Path(own)):
            continue  # as in a shell
        if path.is_dir():
            yield from _in_folder(path, root)
        else:
            yield NamedSource(str(path), path, path, path.relative_to(root).as_posix())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _in_coco(path: Path, image_root: str | Path | None) -> Iterator[NamedSource]:
    entries = _read_coco(path)["images"]
    names = [coco_file_name(entry) for entry in entries]
    if None in names:
        raise ValueError(f"{path}: image {names.index(None)} has neither file_name nor coco_url")
    named = [name for name in names if name is not None]
    root = find_image_root(path, named) if image_root is None else Path(image_root)
    for entry, name in zip(entries, named, strict=True):
        image_id = entry.get("id")
        file = root / name
        relative = PurePosixPath(*(part for part in PurePosixPath(name).parts if part != ".."))
        yield NamedSource(
            str(file),
            file,
            file,
            relative.as_posix().lstrip("/"),
            image_id if isinstance(image_id, int) else None,
        )


def _read_coco(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such file") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a valid json file: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f"{path} has no list of images; expected a COCO json")
    return content


def find_image_root(annotation_file: Path, images: Sequence[str]) -> Path:
    """The folder that an annotation file's image names start from.

    Args:
        annotation_file: Such as ``coco/annotations/instances_val2017.json``.
        images: Names in it; ten of them are looked for.

    Returns:
        The first that holds one of them of: the file's own folder and the one above; in each of
        them the folder that the file's name ends in (``val2017``), that in ``images``, and
        ``images`` itself. The file's own folder if none does.
    """
    own = annotation_file.parent
    above = own.absolute().parent if own.name in ("", "..") else own.parent
    named = SUBSET.fullmatch(annotation_file.stem)
    subset = annotation_file.stem if named is None else named[1]
    for folder in (own, above):
        for inside in ("", subset, f"images/{subset}", "images"):
            if any(_is_file(folder / inside / name) for name in images[:10]):
                return folder / inside
    return own


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def coco_file_name(entry: Any) -> str | None:
    """``file_name``, or the end of ``coco_url`` (split and file), which is all that LVIS has."""
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("file_name"), str):
        return entry["file_name"]
    url = entry.get("coco_url")
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) else None


def _is_found_below(path: Path, text: str, excluded: Path) -> bool:
    """Whether a search met ``path`` in the excluded folder, rather than the user naming it."""
    path = path.resolve()
    starts_below = Path(text).resolve().is_relative_to(excluded)
    return path.is_relative_to(excluded) and not starts_below


def _nothing_in(text: str) -> str:
    path = Path(text)
    if path.is_dir():
        return (
            f"there is no image in the folder {text}; looked for "
            f"{', '.join(IMAGE_SUFFIXES)} (name other files themselves)"
        )
    if path.suffix.lower() == ".json":
        return f"{text} lists no images"
    return f"no file matches {text}"
