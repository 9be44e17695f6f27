"""Every image of a data set, opened to see whether it can be."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from regionclip.data.images import ImageHeader, ImageReadError, read_header, read_image

from .listing import ListedImage


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What opening an image shows.

    Attributes:
        header: Its size; ``None`` if it cannot be read.
        error: Why it cannot be read, or nothing.
        is_missing: Whether that is because it is not there.
    """

    header: ImageHeader | None
    error: str = ""
    is_missing: bool = False


def open_images(
    images: Sequence[ListedImage],
    *,
    num_workers: int = 4,
    progress: Callable[[int], None] | None = None,
) -> list[ImageFacts]:
    """Decode every image to its last pixel.

    Args:
        images: Of a data set.
        num_workers: Threads; decoding runs without the interpreter's lock.
        progress: Called with 1 after each image.

    Returns:
        One per image.

    Raises:
        ValueError: ``num_workers`` is not positive.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    facts = []
    executor = ThreadPoolExecutor(num_workers, thread_name_prefix="regionclip-check")
    try:
        for each in executor.map(_facts_of, images):
            facts.append(each)
            if progress is not None:
                progress(1)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return facts


def _facts_of(listed: ListedImage) -> ImageFacts:
    try:
        header = read_header(listed.image)
        read_image(listed.image)
        return ImageFacts(header)
    except ImageReadError as error:
        file = listed.image if isinstance(listed.image, Path) else listed.image.archive
        return ImageFacts(None, str(error), is_missing=not _is_there(file))


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # such as a name that is too long
        return False
