"""Pascal VOC and YOLO folders, listed file by file, and captions."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from regionclip.data.datasets import Dataset
from regionclip.data.readers.voc import (
    VocAnnotation,
    find_voc_folder,
    read_voc_annotation,
    voc_class_names,
    voc_image_ids,
    voc_images,
)
from regionclip.data.readers.yolo import (
    NUM_THREADS,
    label_lines,
    parse_label,
    sample_name,
    size_of,
)
from regionclip.data.readers.yolo_folders import label_file, open_yolo

from .listing import ListedImage, Listing

NO_ANNOTATION = VocAnnotation("", None, ())


def list_voc(path: Path, split: str | None, image_root: Path | None) -> Listing:
    """List a Pascal VOC folder.

    Raises:
        ValueError: It is none, or the split is not there or not named.
    """
    folder = find_voc_folder(path)
    if folder is None:
        raise ValueError(f"{path} is no Pascal VOC folder: it has neither Annotations nor VOC2007")
    listing = Listing(_with_split(folder.root, split), "Pascal VOC")
    image_ids = voc_image_ids(folder, split)
    annotations = []
    for image_id in image_ids:
        try:
            annotations.append(read_voc_annotation(folder.annotations / f"{image_id}.xml"))
        except ValueError as error:
            listing.findings.add("unusable annotation", str(error))
            annotations.append(NO_ANNOTATION)
    names = voc_class_names(folder, image_ids, annotations)
    listing.categories = [(label + 1, name) for label, name in enumerate(names)]
    images = voc_images(folder, image_ids, annotations, image_root)
    for index, (image_id, image) in enumerate(zip(image_ids, images, strict=True)):
        annotation = annotations[index]
        listing.images.append(ListedImage(image.name, image_id, image, annotation.size_hw))
        for number, each in enumerate(annotation.objects):
            listing.boxes.add(
                index,
                names.index(each.name),
                each.box,
                place=f"object {number} ({each.name})",
                is_difficult=each.is_difficult,
            )
    return listing


def list_yolo(path: Path, split: str | None, image_root: Path | None) -> Listing:
    """List a YOLO folder; the headers of its images are opened.

    Raises:
        ValueError: It is none, its classes have no names, or the split is not there or not named.
    """
    folder = open_yolo(path, image_root)
    listing = Listing(_with_split(folder.root, split), "YOLO")
    listing.categories = [(each.id, each.name) for each in folder.categories]
    images = folder.images(split)
    with ThreadPoolExecutor(NUM_THREADS) as executor:
        sizes = list(executor.map(size_of, images))
    for index, (image, size) in enumerate(zip(images, sizes, strict=True)):
        size_hw = size if isinstance(size, tuple) else None
        name = sample_name(image, folder.image_root)
        listing.images.append(ListedImage(name, name, image, size_hw))
        _list_labels(label_file(image), index, size_hw or (1, 1), listing)
    expected = {label_file(image) for image in images}
    for labels in sorted({each.parent for each in expected}):
        for file in sorted(labels.glob("*.txt")):
            if file not in expected and file.name != "classes.txt":
                listing.findings.add("unknown image", str(file))
    return listing


def list_captions(dataset: Dataset, format_name: str) -> Listing:
    """List a data set of captions that its reader has read."""
    listing = Listing(dataset.source, format_name, has_boxes=False)
    for index, each in enumerate(dataset):
        listing.images.append(ListedImage(each.name, each.image_id, each.image, each.size_hw))
        listing.num_captions[index] = len(each.captions)
    return listing


def _list_labels(file: Path, index: int, size_hw: tuple[int, int], listing: Listing) -> None:
    label_of = {category_id: label for label, (category_id, _) in enumerate(listing.categories)}
    try:
        lines = label_lines(file)
    except ValueError as error:
        listing.findings.add("unusable annotation", str(error))
        return
    for number, line in lines:
        place = f"line {number} of {file.name}"
        try:
            row = parse_label(line)
        except ValueError as error:
            listing.findings.add("unusable annotation", f"{file}:{number}: {error}")
            continue
        label = label_of.get(row.category_id, -1)
        if label < 0:
            listing.findings.add("unknown category", f"{place}: class {row.category_id}")
        listing.boxes.add(index, label, row.box(size_hw), place=place)


def _with_split(root: Path, split: str | None) -> str:
    return str(root) if split is None else f"{root} ({split})"
