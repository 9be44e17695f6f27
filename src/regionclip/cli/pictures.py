"""Annotated pictures, drawn in the background."""

import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.ops import nms

from regionclip.cli.outputs import detections_of, rows_of, without_masks
from regionclip.data.images import read_image
from regionclip.data.sources import NamedSource
from regionclip.data.video import with_frames
from regionclip.structures import Detections, ImageSource, import_supervision
from regionclip.visualize import contact_sheet, draw_detections
from regionclip.whole_files import replacing

MAX_DRAWN = 25
"""Boxes per picture, best first; microsoft/RegionCLIP@4b8513b ``visualize_zeroshot_inference.sh``
(``--max-boxes``)."""
MAX_DRAWN_IOU = 0.5
JPEG_QUALITY = 90


class PictureWriter:
    """Draws detections and writes JPEG files, in threads, a few behind the caller."""

    def __init__(self, num_workers: int = 2) -> None:
        """Start ``num_workers`` threads."""
        import_supervision()  # here, for it changes warning filters, which belong to all threads
        self._executor = ThreadPoolExecutor(num_workers, thread_name_prefix="regionclip-pictures")
        self._pending: deque[Future[None]] = deque()
        self._max_pending = 4 * num_workers

    def __enter__(self) -> "PictureWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self.finish()

    def write(self, path: Path, image: ImageSource, found: Detections) -> None:
        """Have a picture drawn; waits if too many are under way."""
        self._wait(self._max_pending)
        # what is not drawn need not wait: an image's masks may take gigabytes
        best = found.select(_rows_to_draw(found))
        self._pending.append(self._executor.submit(_write, path, image, best))

    def finish(self) -> None:
        """Wait until all pictures are on disk."""
        self._wait(0)

    def _wait(self, num_left: int) -> None:
        while len(self._pending) > num_left:
            self._pending.popleft().result()


def drawn(image: ImageSource, found: Detections) -> Image.Image:
    """The image with its best boxes; of boxes that overlap, whatever their classes, the best."""
    return draw_detections(read_image(image), found.select(_rows_to_draw(found)))


def detections_to_draw(entry: Mapping[str, Any], class_names: Sequence[str]) -> Detections:
    """Of a journal's entry, what is drawn."""
    rows = _rows_to_draw(detections_of(without_masks(entry), class_names))
    return detections_of(rows_of(entry, rows.tolist()), class_names)


def _rows_to_draw(found: Detections) -> Tensor:
    return nms(found.boxes, found.scores, MAX_DRAWN_IOU)[:MAX_DRAWN]


def image_of(entry: Mapping[str, Any]) -> ImageSource:
    """The image of a journal's entry, read from its video if it is a frame."""
    name, file = entry["image"], Path(entry["file"])
    if name == str(file):
        return file
    index = int(name.rsplit("#", 1)[1])
    frames = with_frames([NamedSource(str(file), file, file, "")], frame_step=max(index, 1))
    found = next(itertools.islice(frames, min(index, 1), None))
    if isinstance(found, tuple):
        raise found[1]
    return found.image


def write_sheet(
    path: Path,
    entries: Iterable[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    max_pictures: int = 16,
) -> None:
    """Draw the first entries and lay them out on one sheet.

    Args:
        path: An image file; its suffix is its format.
        entries: Of the journal.
        class_names: By label.
        max_pictures: On the sheet.
    """
    pictures = [
        drawn(image_of(entry), detections_to_draw(entry, class_names))
        for entry in itertools.islice(entries, max_pictures)
    ]
    if pictures:
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(pictures).save(path)


def _write(path: Path, image: ImageSource, found: Detections) -> None:
    with replacing(path) as partial:
        draw_detections(read_image(image), found).save(partial, format="JPEG", quality=JPEG_QUALITY)
