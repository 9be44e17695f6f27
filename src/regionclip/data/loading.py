"""Images read and resized in the background, while the ones before them are computed."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from regionclip.data.images import ImageReadError
from regionclip.data.sources import NamedSource
from regionclip.structures import ImageSource, PreparedImage

Prepare = Callable[[ImageSource, str], PreparedImage]
"""Reads and resizes an image of that name, as :meth:`regionclip.detect.Detector.prepare` does."""

Loaded = tuple[NamedSource, PreparedImage | ImageReadError]
"""An image, or why it is none."""


def prepared_batches(
    sources: Iterable[NamedSource | tuple[NamedSource, ImageReadError]],
    prepare: Prepare,
    *,
    batch_size: int = 1,
    num_workers: int = 4,
) -> Generator[list[Loaded], None, None]:
    """Prepare images in threads and yield them in batches, in the order of ``sources``.

    At most ``2 * batch_size + num_workers`` images are held beside the batch that was yielded.
    Close the generator, as ``contextlib.closing`` does, to stop the threads before its end.

    Args:
        sources: Read lazily, a few ahead; those that come with an error keep it.
        prepare: Called in several threads at once.
        batch_size: Sources per batch, unreadable ones included; the last may have fewer.
        num_workers: Threads; decoding and resizing run without the interpreter's lock.

    Raises:
        ValueError: ``batch_size`` or ``num_workers`` is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    with closing(_loaded(sources, prepare, num_workers, 2 * batch_size + num_workers)) as loaded:
        while batch := list(itertools.islice(loaded, batch_size)):
            yield batch


def _loaded(
    sources: Iterable[NamedSource | tuple[NamedSource, ImageReadError]],
    prepare: Prepare,
    num_workers: int,
    num_ahead: int,
) -> Generator[Loaded, None, None]:
    remaining = iter(sources)
    pending: deque[Future[Loaded]] = deque()
    executor = ThreadPoolExecutor(num_workers, thread_name_prefix="regionclip-images")
    try:
        while True:
            for source in itertools.islice(remaining, num_ahead - len(pending)):
                pending.append(executor.submit(_load, source, prepare))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _load(source: NamedSource | tuple[NamedSource, ImageReadError], prepare: Prepare) -> Loaded:
    if isinstance(source, tuple):
        return source
    try:
        return source, prepare(source.image, source.name)
    except ImageReadError as error:
        return source, error
