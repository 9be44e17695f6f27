"""YOLO folders, read: one text per image, one line per object, in shares of the image's size."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from regionclip.data.datasets import LARGEST_COORDINATE, Dataset, Objects, Sample, Segmentation
from regionclip.data.images import ImageReadError, read_header

from .yolo_folders import label_file, open_yolo

NUM_THREADS = 8
"""That read headers of images: the disk is what they wait for."""


@dataclass(frozen=True, slots=True)
class YoloRow:
    """A line of a label file.

    Attributes:
        category_id: Number of the class.
        points: ``x0, y0, x1, y1, ...`` in shares of width and height: of a box its first and last
            corner, of a polygon all.
        is_polygon: Whether it is one.
    """

    category_id: int
    points: tuple[float, ...]
    is_polygon: bool

    def box(self, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """``xyxy`` in pixels."""
        height, width = size_hw
        x0, y0, x1, y1 = self.points[:4]
        if self.is_polygon:
            xs, ys = self.points[::2], self.points[1::2]
            x0, y0, x1, y1 = min(xs), min(ys), max(xs), max(ys)
        return x0 * width, y0 * height, x1 * width, y1 * height

    def segmentation(self, size_hw: tuple[int, int]) -> Segmentation:
        """COCO's polygon in pixels; ``None`` of a box."""
        height, width = size_hw
        scaled = [each * (height if n % 2 else width) for n, each in enumerate(self.points)]
        return [scaled] if self.is_polygon else None

    def area(self, size_hw: tuple[int, int]) -> float:
        """Square pixels of the polygon, else of the box."""
        height, width = size_hw
        xs, ys = self.points[::2], self.points[1::2]
        if not self.is_polygon:
            return (xs[1] - xs[0]) * (ys[1] - ys[0]) * width * height
        pairs = zip(xs, ys, (*xs[1:], xs[0]), (*ys[1:], ys[0]), strict=True)
        return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in pairs)) / 2 * width * height


def read_yolo(
    path: str | Path, *, split: str | None = None, image_root: str | Path | None = None
) -> Dataset:
    """Read a YOLO folder: boxes, or polygons with the boxes around them.

    The images' headers are opened, for labels are shares of the size. That is the size of the image
    turned upright, as tools show it. Images without a label file have no objects and stay.

    Args:
        path: A folder with ``data.yaml``, or with ``images`` beside ``labels``; or the yaml itself.
        split: ``train``, ``val``, ``test``; may be left out where there is one.
        image_root: What the image folders start from; by default the yaml's ``path``, or its
            folder.

    Raises:
        ValueError: It is no YOLO folder, the split is not there, a line cannot be used, or an image
            with objects cannot be opened.
    """
    folder = open_yolo(Path(path), image_root)
    images = folder.images(split)
    if not images:
        raise ValueError(f"{folder.root} has no image{'' if split is None else f' in {split!r}'}")
    label_of = {each.id: label for label, each in enumerate(folder.categories)}
    with ThreadPoolExecutor(NUM_THREADS) as executor:
        sizes = list(executor.map(size_of, images))
    samples = []
    for image, size in zip(images, sizes, strict=True):
        rows = read_labels(label_file(image), label_of)
        if rows and isinstance(size, ImageReadError):
            raise ValueError(f"{size}; its labels are shares of its size") from size
        size_hw = size if isinstance(size, tuple) else None
        name = sample_name(image, folder.image_root)
        objects = Objects.empty() if size_hw is None else _objects_of(rows, label_of, size_hw)
        samples.append(Sample(name, image, name, size_hw, objects))
    source = str(folder.root) if split is None else f"{folder.root} ({split})"
    return Dataset(source, folder.categories, tuple(samples))


def read_labels(path: Path, known: Mapping[int, int]) -> list[YoloRow]:
    """The lines of a label file; none if there is no file.

    Raises:
        ValueError: A line cannot be used; the message names it.
    """
    rows = []
    for number, line in label_lines(path):
        try:
            row = parse_label(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        if row.category_id not in known:
            raise ValueError(
                f"{path}:{number}: there is no class {row.category_id}; the highest is "
                f"{max(known, default='none')}"
            )
        rows.append(row)
    return rows


def label_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a label file that are not blank, numbered from 1.

    Raises:
        ValueError: It is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text: {error}") from error
    return [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]


def parse_label(line: str) -> YoloRow:
    """Read ``class cx cy width height``, or ``class x0 y0 x1 y1 x2 y2 ...`` (a polygon).

    Raises:
        ValueError: It is neither; the message does not name the file.
    """
    try:
        numbers = [float(each) for each in line.split()]
    except ValueError as error:
        raise ValueError(f"expected numbers, got {line.strip()[:60]!r}") from error
    is_polygon = len(numbers) >= 7 and len(numbers) % 2 == 1
    if len(numbers) != 5 and not is_polygon:
        raise ValueError(
            f"expected a class and 4 numbers of a box, or 6 and more of a polygon, got "
            f"{len(numbers)} numbers"
        )
    if not all(abs(each) <= LARGEST_COORDINATE for each in numbers):  # also true of NaN
        raise ValueError(f"expected finite numbers, got {line.strip()[:60]!r}")
    category_id, *points = numbers
    if not category_id.is_integer():
        raise ValueError(f"expected the number of a class first, got {category_id:g}")
    if is_polygon:
        return YoloRow(int(category_id), tuple(points), is_polygon=True)
    x, y, width, height = points
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return YoloRow(int(category_id), corners, is_polygon=False)


def sample_name(image: Path, image_root: Path) -> str:
    """An image's path with ``/`` below the root, or as it is if it lies elsewhere."""
    is_below = image.is_relative_to(image_root)
    return (image.relative_to(image_root) if is_below else image).as_posix()


def size_of(image: Path) -> tuple[int, int] | ImageReadError:
    """Height and width of the upright image, or why they cannot be read."""
    try:
        return read_header(image).size_hw
    except ImageReadError as error:
        return error


def _objects_of(
    rows: Sequence[YoloRow], label_of: Mapping[int, int], size_hw: tuple[int, int]
) -> Objects:
    has_polygons = any(each.is_polygon for each in rows)
    return Objects.from_rows(
        [each.box(size_hw) for each in rows],
        [label_of[each.category_id] for each in rows],
        segmentations=[each.segmentation(size_hw) for each in rows] if has_polygons else (),
        areas=[each.area(size_hw) for each in rows] if has_polygons else None,
    )
