"""What the demo keeps of each visitor: pictures, and which of them is looked at."""

import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from regionclip.data.icons import DOMAINS, draw_scene

from .inputs import InputError, Picture, checked_box, take_picture

MAX_PICTURES = 24
"""Of one visitor, examples not counted."""
MAX_SESSIONS = 64
"""Visitors whose pictures are kept; the longest silent goes first."""
NUM_EXAMPLES = 8
EXAMPLE_SIDE = 320
"""Pixels of a generated scene."""
EXAMPLE_SEED = 20261128


@dataclass(slots=True)
class Session:
    """One visitor's.

    Attributes:
        folder: Of the files of this visitor alone.
        pictures: The examples, then what was uploaded, in that order.
        num_examples: How many examples there are.
        current: Which picture is looked at.
        boxes: What was drawn last on it, per tab.
        num_results: How often files to take home were written.
    """

    folder: Path
    pictures: list[Picture]
    num_examples: int
    current: int = 0
    boxes: dict[str, list[float]] = field(default_factory=dict)
    num_results: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def picture(self) -> Picture:
        """The picture that is looked at.

        Raises:
            InputError: There is none.
        """
        if not self.pictures:
            raise InputError("there is no picture yet; upload or paste one")
        return self.pictures[self.current]

    def add(self, upload: Path, *, name: str | None = None) -> Picture:
        """Take an upload, and look at it.

        Raises:
            InputError: It cannot be used, or there are too many pictures.
        """
        if len(self.pictures) - self.num_examples >= MAX_PICTURES:
            raise InputError(
                f"{MAX_PICTURES} pictures are kept of a visitor at most; load the page again to "
                "start over"
            )
        taken = take_picture(upload, self.folder, name=name)
        with self.lock:
            self.pictures.append(taken)
            self.current = len(self.pictures) - 1
            self.boxes.clear()
        return taken

    def look_at(self, index: int) -> Picture:
        """Choose a picture by its place.

        Raises:
            InputError: There is no such place.
        """
        if not 0 <= index < len(self.pictures):
            raise InputError(f"there is no picture number {index + 1}; choose one of those shown")
        with self.lock:
            self.current = index
            self.boxes.clear()
        return self.picture

    def box(self, tab: str, drawn: Sequence[float | int] | None) -> list[float]:
        """The box that was drawn, now or before, its corners in order.

        Args:
            tab: Where.
            drawn: ``xyxy`` in pixels of the picture; ``None`` if it stays as it was.

        Raises:
            InputError: There is none, or it is too small.
        """
        if drawn is not None:
            self.boxes[tab] = checked_box(drawn, self.picture)
        if tab not in self.boxes:
            raise InputError("no box yet; draw one around an object, with the mouse pressed")
        return self.boxes[tab]

    def results_folder(self) -> Path:
        """A new folder for files to take home; those of before the last stay for a while."""
        with self.lock:
            self.num_results += 1
            number = self.num_results
        shutil.rmtree(self.folder / f"results-{number - 2}", ignore_errors=True)
        folder = self.folder / f"results-{number}"
        folder.mkdir()
        return folder


class Sessions:
    """Sessions by the key that a visitor's page carries."""

    def __init__(
        self, folder: Path, examples: list[Picture], *, max_sessions: int = MAX_SESSIONS
    ) -> None:
        """Keep files in ``folder``; everyone begins with the examples."""
        self._folder = folder
        self._examples = examples
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._num_opened = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, key: str) -> Session:
        """A visitor's session, begun if there is none."""
        with self._lock:
            if key not in self._sessions:
                self._num_opened += 1
                # a number, for the key comes from a browser
                folder = self._folder / f"visitor-{self._num_opened}"
                folder.mkdir(parents=True)
                self._sessions[key] = Session(folder, list(self._examples), len(self._examples))
            self._sessions.move_to_end(key)
            while len(self._sessions) > self._max_sessions:
                _, oldest = self._sessions.popitem(last=False)
                shutil.rmtree(oldest.folder, ignore_errors=True)
            return self._sessions[key]

    def end(self, key: str) -> None:
        """Forget a visitor, who may never have come."""
        with self._lock:
            ended = self._sessions.pop(key, None)
        if ended is not None:
            shutil.rmtree(ended.folder, ignore_errors=True)


def write_examples(folder: Path, *, count: int = NUM_EXAMPLES) -> list[Picture]:
    """Draw scenes of icons, in every weather, as PNG files.

    Args:
        folder: Is made.
        count: How many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for index in range(count):
        # by day first, for that is what most will try
        domain = "day" if index < count // 2 else DOMAINS[index % len(DOMAINS)]
        scene = draw_scene(EXAMPLE_SEED, index, size=EXAMPLE_SIDE, domain=domain)
        path = folder / f"scene-{index + 1}.png"
        Image.fromarray(np.asarray(scene.pixels)).save(path)
        pictures.append(Picture(path, f"scene {index + 1}", (EXAMPLE_SIDE, EXAMPLE_SIDE)))
    return pictures
