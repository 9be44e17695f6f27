"""What the demo keeps of each visitor: pictures, and which of them is looked at."""

import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from regionclip.data.icons import DOMAINS, draw_scene

from .inputs import InputError
from .pictures import Picture, checked_box, take_picture, with_previews

MAX_PICTURES = 24
"""Of one visitor, examples not counted."""
MAX_SESSIONS = 64
"""Visitors whose pictures are kept; the longest silent goes first."""
NUM_EXAMPLES = 8
EXAMPLE_SIDE = 320
"""Pixels of a generated scene."""
EXAMPLE_SEED = 20261355
"""The model that ships makes no mistake in the first of its scenes, nor in most of the others."""
ENDED = (
    "this visit has ended, and its pictures are deleted: the connection was lost, the demo was "
    f"started anew, or {MAX_SESSIONS} others came since. Load the page again to start over"
)


@dataclass(frozen=True, slots=True)
class Look:
    """What a visitor looked at when something was begun; the visitor may have gone on since.

    Attributes:
        place: Of the picture among the pictures; it keeps its place for as long as the visit lasts.
        pictures: The examples, then what was uploaded.
    """

    place: int
    pictures: tuple[Picture, ...]

    @property
    def picture(self) -> Picture:
        """The one that was looked at."""
        return self.pictures[self.place]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A box as it was drawn.

    Attributes:
        place: Of the picture that it was drawn on.
        corners: ``xyxy`` in pixels of that picture.
    """

    place: int
    corners: Sequence[float | int]


@dataclass(slots=True)
class Session:
    """One visitor's.

    Attributes:
        folder: Of the files of this visitor alone.
        pictures: The examples, then what was uploaded, in that order; it only grows.
        num_examples: How many examples there are.
        current: Place of the picture that is looked at.
        boxes: What was drawn last on it, per tab.
        uploads: Files as they arrived, that go with the visitor, too.
        num_results: How often files to take home were written.
    """

    folder: Path
    pictures: list[Picture]
    num_examples: int
    current: int = 0
    boxes: dict[str, list[float]] = field(default_factory=dict)
    uploads: list[Path] = field(default_factory=list)
    num_results: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> Look:
        """What is looked at.

        Raises:
            InputError: There is no picture.
        """
        with self.lock:
            if not self.pictures:
                raise InputError("there is no picture yet; upload or paste one")
            return Look(self.current, tuple(self.pictures))

    def check_looks_at(self, look: Look) -> None:
        """Raise for a result that would be shown on another picture than its own.

        Raises:
            InputError: The visitor has gone on.
        """
        if self.current != look.place:
            raise InputError(
                f"you chose another picture while {look.picture.name} was being looked at, and its "
                "result is left out; ask once more for the picture that you see"
            )

    def add(self, upload: Path, *, name: str | None = None) -> Picture:
        """Take an upload, and look at it.

        Raises:
            InputError: It cannot be used, or there are too many pictures.
        """
        with self.lock:
            self.uploads.append(upload)
            # counted before it is read, which takes a while: two may arrive at once
            number = len(self.uploads)
        self._check_room()
        try:
            taken = take_picture(upload, self.folder / f"{number:04d}", name=name)
        except FileNotFoundError as error:
            raise InputError(ENDED) from error
        with self.lock:
            self._check_room()
            self.pictures.append(taken)
            self.current = len(self.pictures) - 1
            self.boxes.clear()
        return taken

    def _check_room(self) -> None:
        if len(self.pictures) - self.num_examples >= MAX_PICTURES:
            raise InputError(
                f"{MAX_PICTURES} pictures are kept of a visitor at most; load the page again to "
                "start over"
            )

    def look_at(self, place: int) -> None:
        """Choose a picture.

        Raises:
            InputError: There is no such place.
        """
        with self.lock:
            if not 0 <= place < len(self.pictures):
                raise InputError(
                    f"there is no picture number {place + 1}; choose one of those shown"
                )
            self.current = place
            self.boxes.clear()

    def box(self, tab: str, drawn: Drawn | None, look: Look) -> list[float]:
        """The box that was drawn, now or before, its corners in order.

        Args:
            tab: Where.
            drawn: ``None`` if it stays as it was.
            look: The picture that it is for.

        Raises:
            InputError: There is none, it is too small, or it was drawn on another picture.
        """
        with self.lock:
            if self.current != look.place or (drawn is not None and drawn.place != look.place):
                raise InputError(
                    "the picture was changed before the box on it was looked at, and the box is "
                    "left out; draw it on the picture that you see"
                )
            if drawn is not None:
                # one that is refused is what the page shows now, so that the one before goes, too
                self.boxes.pop(tab, None)
                self.boxes[tab] = checked_box(drawn.corners, look.picture)
            if tab not in self.boxes:
                raise InputError("no box yet; draw one around an object, with the mouse pressed")
            return self.boxes[tab]

    def results_folder(self) -> Path:
        """A new folder for files to take home; those of before the last stay for a while.

        Raises:
            InputError: The visit has ended meanwhile.
        """
        with self.lock:
            self.num_results += 1
            number = self.num_results
        shutil.rmtree(self.folder / f"results-{number - 2}", ignore_errors=True)
        folder = self.folder / f"results-{number}"
        try:
            folder.mkdir()
        except FileNotFoundError as error:
            raise InputError(ENDED) from error
        return folder

    def delete_files(self) -> None:
        """Leave nothing of the visitor on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for upload in self.uploads:
            with suppress(OSError):  # gone already, or shared with somebody who uploads the same
                upload.unlink()
                upload.parent.rmdir()


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
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, key: str) -> bool:
        return key in self._sessions

    def begin(self, key: str) -> Session:
        """A visitor's session, made if there is none; too many end that of the longest silent."""
        ended: list[Session] = []
        with self._lock:
            if key not in self._sessions:
                # not by the key, which comes from a browser; and files in it are handed to whoever
                # knows their path, so that it must be beyond guessing
                folder = self._folder / secrets.token_hex(16)
                folder.mkdir(parents=True)
                self._sessions[key] = Session(folder, list(self._examples), len(self._examples))
            self._sessions.move_to_end(key)
            while len(self._sessions) > self._max_sessions:
                ended.append(self._sessions.popitem(last=False)[1])
            session = self._sessions[key]
        for each in ended:
            each.delete_files()
        return session

    def of(self, key: str) -> Session:
        """A session that was begun.

        Raises:
            InputError: It has ended, or never began.
        """
        with self._lock:
            if key not in self._sessions:
                raise InputError(ENDED)
            self._sessions.move_to_end(key)
            return self._sessions[key]

    def end(self, key: str) -> None:
        """Forget a visitor, who may never have come."""
        with self._lock:
            ended = self._sessions.pop(key, None)
        if ended is not None:
            ended.delete_files()


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
        image = Image.fromarray(np.asarray(scene.pixels))
        image.save(path)
        pictures.append(with_previews(path, image, name=f"scene {index + 1}"))
    return pictures
