"""Pascal VOC: a folder of lists, images and one xml per image."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from regionclip.data.datasets import LARGEST_COORDINATE, Category, Dataset, Objects, Sample
from regionclip.data.sources import IMAGE_SUFFIXES

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class VocObject:
    """An object of an annotation.

    Attributes:
        name: In lower case, without blanks around it.
        box: ``xyxy``, from 0, right and bottom border outside.
        is_difficult: What the annotators could only tell from context.
    """

    name: str
    box: Box
    is_difficult: bool


@dataclass(frozen=True, slots=True)
class VocAnnotation:
    """What an xml says; its size is ``None`` where it says nothing."""

    file_name: str
    size_hw: tuple[int, int] | None
    objects: tuple[VocObject, ...]


@dataclass(frozen=True, slots=True)
class VocFolder:
    """Where the parts of a VOC data set are."""

    root: Path

    @property
    def annotations(self) -> Path:
        """One xml per image."""
        return self.root / "Annotations"

    @property
    def images(self) -> Path:
        """One file per image."""
        return self.root / "JPEGImages"

    @property
    def lists(self) -> Path:
        """One text per split, with one image per line."""
        return self.root / "ImageSets" / "Main"

    def splits(self) -> dict[str, Path]:
        """Lists of images by name, without those about one class (``dog_train.txt``)."""
        found = {each.stem: each for each in sorted(self.lists.glob("*.txt"))}
        return {name: path for name, path in found.items() if not _is_about_a_class(path)}


def find_voc_folder(path: Path) -> VocFolder | None:
    """The VOC folder that ``path`` is or has in it, as ``VOC2007``.

    Raises:
        ValueError: It has several in it.
    """
    if (path / "Annotations").is_dir() or (path / "ImageSets").is_dir():
        return VocFolder(path)
    found = [each for each in sorted(path.glob("VOC*")) if (each / "Annotations").is_dir()]
    if len(found) > 1:
        raise ValueError(
            f"{path} has {', '.join(each.name for each in found)} in it; name one of them"
        )
    return VocFolder(found[0]) if found else None


def read_voc(
    path: str | Path, *, split: str | None = None, image_root: str | Path | None = None
) -> Dataset:
    """Read a Pascal VOC folder; nothing in it is changed.

    The classes are those that occur in any of the folder's annotations, sorted, so that all its
    splits number them alike. Images without objects stay, difficult objects are kept and marked.

    Args:
        path: The folder with ``Annotations``, or the one above it.
        split: Name of a list in ``ImageSets/Main``; by default its only list, or all annotations
            if there is none.
        image_root: Folder of the images; by default ``JPEGImages``.

    Raises:
        ValueError: It is no VOC folder, the split is not there or not named, or an annotation
            cannot be used.
    """
    folder = find_voc_folder(Path(path))
    if folder is None:
        raise ValueError(f"{path} is no Pascal VOC folder: it has neither Annotations nor VOC2007")
    image_ids = voc_image_ids(folder, split)
    annotations = [read_voc_annotation(folder.annotations / f"{each}.xml") for each in image_ids]
    names = voc_class_names(folder, image_ids, annotations)
    label_of = {name: label for label, name in enumerate(names)}
    images = voc_images(folder, image_ids, annotations, image_root)
    samples = tuple(
        Sample(
            name=image.name,
            image=image,
            image_id=image_id,
            size_hw=annotation.size_hw,
            objects=_objects_of(annotation.objects, label_of),
        )
        for image_id, image, annotation in zip(image_ids, images, annotations, strict=True)
    )
    categories = tuple(Category(name, label + 1) for name, label in label_of.items())
    source = str(folder.root) if split is None else f"{folder.root} ({split})"
    return Dataset(source, categories, samples)


def voc_image_ids(folder: VocFolder, split: str | None) -> list[str]:
    """The images of a split, in the order of its list.

    Raises:
        ValueError: The split is not there, or there are several and none is named.
    """
    splits = folder.splits()
    if split is None and not splits:
        return sorted(each.stem for each in folder.annotations.glob("*.xml"))
    if split is None and len(splits) > 1:
        raise ValueError(f"{folder.root} has several splits; choose one: {', '.join(splits)}")
    path = folder.lists / f"{split}.txt" if split is not None else next(iter(splits.values()))
    if not path.is_file():
        raise ValueError(
            f"{folder.root} has no split {split!r}: there is no {path}; its splits are: "
            f"{', '.join(splits) or 'none'}"
        )
    lines = [line.strip() for line in _text(path).splitlines()]
    if _is_about_a_class(path):
        return [line.rsplit(maxsplit=1)[0] for line in lines if line]
    return [line for line in lines if line]


def voc_class_names(
    folder: VocFolder, image_ids: Iterable[str], annotations: Iterable[VocAnnotation]
) -> list[str]:
    """Classes of these annotations and of all others in the folder, sorted.

    Others that cannot be used are passed over: they matter when their own split is read.
    """
    names = {each.name for annotation in annotations for each in annotation.objects}
    known = set(image_ids)
    for path in folder.annotations.glob("*.xml"):
        if path.stem in known:
            continue
        try:
            names |= {each.name for each in read_voc_annotation(path).objects}
        except ValueError:
            continue
    return sorted(names)


def voc_images(
    folder: VocFolder,
    image_ids: Sequence[str],
    annotations: Sequence[VocAnnotation],
    image_root: str | Path | None,
) -> list[Path]:
    """Where the images are: named after the id, else as the annotation says, else ``<id>.jpg``."""
    root = folder.images if image_root is None else Path(image_root)
    files = {each.name for each in root.iterdir()} if root.is_dir() else set()
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in sorted(files):
        stem, _, suffix = name.rpartition(".")
        if f".{suffix.lower()}" in IMAGE_SUFFIXES:
            by_stem[stem].append(name)
    found = []
    for image_id, annotation in zip(image_ids, annotations, strict=True):
        named = annotation.file_name
        own = by_stem.get(image_id) or ([named] if named in files else [f"{image_id}.jpg"])
        found.append(root / (named if named in own else own[0]))
    return found


def read_voc_annotation(path: Path) -> VocAnnotation:
    """Read one xml.

    VOC counts pixels from 1 and its boxes include their last pixel: 1 is subtracted from left and
    top, which makes boxes from 0 with right and bottom border outside. Where that gives a value
    between -1 and 0, as for files that count from 0, it is set to 0.

    Raises:
        ValueError: It is not there, no VOC annotation, or an object has no name or no box.

    Source:
        facebookresearch/detectron2 ``detectron2/data/datasets/pascal_voc.py:65-69`` (the shift);
        vidit09/domaingen ``data/datasets/diverse_weather.py`` (the -1, missing tags, names).
    """
    try:
        root = _parse(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} cannot be read as xml: {error}") from error
    if root.tag != "annotation":
        raise ValueError(f"{path} is no VOC annotation: it begins with <{root.tag[:40]}>")
    try:
        width, height = (_number(root, f"size/{side}", 0.0) for side in ("width", "height"))
        return VocAnnotation(
            file_name=(root.findtext("filename") or "").strip(),
            size_hw=(int(height), int(width)) if width > 0 and height > 0 else None,
            objects=tuple(map(_object_of, root.iter("object"))),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _object_of(element: Element) -> VocObject:
    name = (element.findtext("name") or "").strip().lower()
    if not name:
        raise ValueError("an object has no name")
    x0, y0, x1, y1 = (
        _number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    is_difficult = (element.findtext("difficult") or "").strip() == "1"
    return VocObject(name, (_from_0(x0), _from_0(y0), x1, y1), is_difficult)


def _from_0(coordinate: float) -> float:
    shifted = coordinate - 1
    return 0.0 if -1 <= shifted < 0 else shifted


def _number(element: Element, path: str, default: float | None = None) -> float:
    text = element.findtext(path)
    if text is None and default is not None:
        return default
    try:
        number = float(text or "")
    except ValueError:
        number = float("inf")
    if not abs(number) <= LARGEST_COORDINATE:  # also true of NaN
        what = "nothing" if text is None else repr(text[:40])
        raise ValueError(f"{path} of {element.tag} is {what}, expected a number")
    return number


class _WithoutDoctype(TreeBuilder):
    """Refuses what entities are declared in: a kilobyte of them expands to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError(f"it declares a document type ({name}), which no annotation needs")


def _parse(path: Path) -> Element:
    parser = XMLParser(target=_WithoutDoctype())
    parser.feed(path.read_bytes())
    return parser.close()


def _objects_of(objects: Sequence[VocObject], label_of: Mapping[str, int]) -> Objects:
    return Objects.from_rows(
        [each.box for each in objects],
        [label_of[each.name] for each in objects],
        is_difficult=[each.is_difficult for each in objects],
    )


def _is_about_a_class(path: Path) -> bool:
    """Whether a list says of each image if it has objects of a class (1), or hard ones (0)."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        columns = lines.readline().split()
    return len(columns) > 1 and columns[-1] in ("-1", "0", "1")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text: {error}") from error
