import sys
from pathlib import Path

import numpy as np
import pytest

from regionclip.data.images import ImageReadError, read_image
from regionclip.data.sources import NamedSource, find_images
from regionclip.data.video import with_frames


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Seven grey frames, each 30 levels brighter than the one before."""
    av = pytest.importorskip("av", reason="the extra [video] is not installed")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for level in range(0, 210, 30):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), level, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_every_nth_frame_is_taken_from_the_first_on(clip: Path) -> None:
    frames = list(with_frames(find_images([clip]), frame_step=3))
    assert all(isinstance(frame, NamedSource) for frame in frames)
    assert [frame.name for frame in frames] == [f"{clip}#{n:06d}" for n in (0, 3, 6)]  # type: ignore[union-attr]
    assert frames[1].relative == "clip.mp4/000003"  # type: ignore[union-attr]
    levels = [np.asarray(read_image(frame.image)).mean() for frame in frames]  # type: ignore[union-attr]
    assert np.allclose(levels, [0, 90, 180], atol=3)


def test_images_pass_through(tmp_path: Path) -> None:
    sources = find_images([tmp_path / "a.jpg"])
    assert list(with_frames(sources)) == sources


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_damaged_video_is_named_and_the_next_source_follows(clip: Path, share: float) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[: int(share * len(content))])
    *frames, last = with_frames(find_images([clip, clip.parent / "a.jpg"]))
    assert isinstance(last, NamedSource)
    assert last.name.endswith("a.jpg")
    source, error = frames[-1]  # type: ignore[misc]
    assert source.name == str(clip)
    with pytest.raises(ImageReadError, match=r"clip\.mp4: (cannot be read as a|has no) video"):
        raise error


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"clip\.mp4: reading videos needs PyAV; pip install"):
        list(with_frames(find_images(["clip.mp4"])))


def test_a_step_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="frame_step must be at least 1, got 0"):
        list(with_frames([], frame_step=0))
