"""Videos as sequences of images, through PyAV."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from regionclip.data.images import ImageReadError
from regionclip.data.sources import NamedSource

if TYPE_CHECKING:
    import av


def with_frames(
    sources: Iterable[NamedSource], *, frame_step: int = 1
) -> Iterator[NamedSource | tuple[NamedSource, ImageReadError]]:
    """Replace each video by its frames, decoded as they are asked for.

    Args:
        sources: Images pass through as they are.
        frame_step: Every how many frames one is taken, from the first on.

    Yields:
        Images and frames; a frame of ``clip.mp4`` is called ``clip.mp4#000030`` by its index. A
        video that cannot be read, or not to its end, yields itself with the error, and the next
        source follows.

    Raises:
        ValueError: ``frame_step`` is not positive, or PyAV is missing.
    """
    if frame_step < 1:
        raise ValueError(f"frame_step must be at least 1, got {frame_step}")
    for source in sources:
        if not source.is_video:
            yield source
            continue
        try:
            yield from _frames(source, frame_step)
        except ImageReadError as error:
            yield source, error


def _frames(source: NamedSource, frame_step: int) -> Iterator[NamedSource]:
    try:
        import av
        import av.error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{source.name}: reading videos needs PyAV; pip install 'regionclip[video]'"
        ) from error
    try:
        with av.open(str(source.file)) as container:
            if not container.streams.video:
                raise ImageReadError(
                    f"{source.name}: has no video stream; it is sound only, or damaged"
                )
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index % frame_step == 0:
                    yield _frame(source, frame, index)
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise ImageReadError(
            f"{source.name}: cannot be read as a video to its end ({reason}); convert it to MP4"
        ) from error


def _frame(source: NamedSource, frame: "av.VideoFrame", index: int) -> NamedSource:
    picture = frame.to_image()
    if frame.rotation:
        picture = picture.rotate(frame.rotation, expand=True)
    return replace(
        source,
        name=f"{source.name}#{index:06d}",
        image=picture,
        relative=f"{source.relative}/{index:06d}",
    )
