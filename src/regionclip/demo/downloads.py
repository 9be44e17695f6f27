"""What visitors take home: COCO json, an annotated PNG, region vectors in Parquet."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from PIL import Image
from pyarrow import parquet

from regionclip.cli.outputs import detections_entry, write_detections
from regionclip.cli.region_files import Regions, region_rows
from regionclip.data.sources import NamedSource
from regionclip.structures import Detections
from regionclip.visualize import draw_detections
from regionclip.whole_files import replacing

from .actions import Found, only_names_found
from .pictures import Picture


@dataclass(frozen=True, slots=True)
class OneImage:
    """A single image's detections, listed as the commands' journals list many."""

    entry: dict[str, Any]

    def entries(self) -> Iterator[dict[str, Any]]:
        """The one."""
        yield self.entry


def write_coco(folder: Path, picture: Picture, found: Found) -> Path:
    """A COCO data set of the one picture, with scores, as ``regionclip detect`` writes it."""
    source = NamedSource(picture.name, picture.path, picture.path, picture.name)
    entry = detections_entry(source, found.detections, picture.size_hw)
    entry["image"] = picture.name
    names = found.detections.class_names
    ids = range(1, len(names) + 1)
    return write_detections(folder, ("coco",), OneImage(entry), names, list(ids))[0]


def write_png(folder: Path, image: Image.Image, found: Found) -> Path:
    """The picture with its boxes and names."""
    path = folder / "detections.png"
    detections = only_names_found(found.detections)
    font = font_for(" ".join(detections.names))
    with replacing(path) as partial:
        draw_detections(image, detections, font=font).save(partial, format="PNG")
    return path


def write_regions(
    folder: Path, picture: Picture, found: Found, *, model: str, encoder_id: str
) -> Path:
    """The vectors of what was found, in the columns of ``regionclip embed-regions``."""
    path = folder / "regions.parquet"
    table = region_rows(
        picture.name,
        _regions(found.detections, found),
        dtype="float32",
        probs="top",
        class_names=found.detections.class_names,
    )
    metadata = {"model": model, "encoder_id": encoder_id}
    with replacing(path) as partial:
        parquet.write_table(table.replace_schema_metadata(metadata), partial)
    return path


def _regions(detections: Detections, found: Found) -> Regions:
    features = detections.features
    return Regions(
        boxes=detections.boxes,
        features=detections.boxes.new_zeros(len(detections), 0) if features is None else features,
        objectness=detections.objectness,
        labels=detections.labels,
        scores=detections.scores,
        probs=found.probabilities,
    )


def font_for(text: str) -> Path | None:
    """A font of this machine with every character of ``text``.

    Returns:
        ``None`` if the usual one has them, or if none has.
    """
    wanted = {ord(each) for each in text if not each.isspace()}
    default = fontManager.findfont("DejaVu Sans")
    if wanted <= _characters(str(default)):
        return None
    # the font of last resort has a box with a number for everything
    paths = [each.fname for each in fontManager.ttflist if "LastResort" not in each.fname]
    return next((Path(path) for path in paths if wanted <= _characters(path)), None)


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that is listed and gone, or of a kind unknown
        return frozenset()


def write_all(
    folder: Path,
    picture: Picture,
    found: Found,
    *,
    image: Image.Image,
    model: str,
    encoder_id: str,
) -> tuple[Path, Path, Path]:
    """All three.

    Args:
        folder: Exists.
        picture: Where it was found.
        found: What.
        image: The picture, decoded.
        model: Found it.
        encoder_id: Names the space of the vectors.
    """
    return (
        write_coco(folder, picture, found),
        write_png(folder, image, found),
        write_regions(folder, picture, found, model=model, encoder_id=encoder_id),
    )
