"""One method per thing that a visitor can do: from what the page sends to what it shows.

No method raises for what a visitor did; what went wrong becomes a notice.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from . import viewing
from .actions import (
    Indexes,
    Request,
    Step,
    box_vector,
    detect,
    elsewhere,
    find_alike,
    name_region,
)
from .downloads import write_all
from .heat_map import heat_map
from .inputs import InputError, checked_vocabulary, foreign_names
from .models import Choice, Models
from .sessions import Session, Sessions

MAX_NAMES_SHOWN = 12
"""Of one box, the best first."""

View = dict[str, Any]
Method = TypeVar("Method", bound=Callable[..., "Shown"])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What changes on the page; ``None`` leaves a part as it is.

    Attributes:
        notice: HTML, empty for nothing to say.
        strip: Pictures to choose from.
        picture: The tab's picture.
        results: HTML beside it.
        files: To take home: COCO json, PNG, Parquet.
    """

    notice: str = ""
    strip: View | None = None
    picture: View | None = None
    results: str = ""
    files: Sequence[Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds for all tabs."""

    model: str
    proposals: str
    num_regions: int


def _said(method: Method) -> Method:
    """Turn what goes wrong into a notice."""

    @wraps(method)
    def careful(*args: Any, **kwargs: Any) -> Shown:
        try:
            return method(*args, **kwargs)
        except (ValueError, ConnectionError) as error:
            return Shown(notice=viewing.notice(str(error), "error"))
        except Exception:
            _log.exception("the demo failed")
            text = "something went wrong here, and the log of this demo says what; try again"
            return Shown(notice=viewing.notice(text, "error"))

    return cast(Method, careful)


class Handlers:
    """The demo without its page."""

    def __init__(self, models: Models, sessions: Sessions) -> None:
        """Use these models for all visitors."""
        self.models = models
        self.sessions = sessions
        self._indexes = Indexes()

    @_said
    def begin(self, key: str) -> Shown:
        """Show a visitor's pictures."""
        return _looking_at(self.sessions.of(key))

    @_said
    def upload(self, key: str, path: str | None) -> Shown:
        """Take a picture."""
        session = self.sessions.of(key)
        if path is None:
            raise InputError("nothing has arrived; choose an image file, or paste one")
        session.add(Path(path))
        return _looking_at(session)

    @_said
    def pick(self, key: str, index: int) -> Shown:
        """Look at another picture."""
        session = self.sessions.of(key)
        session.look_at(index)
        return _looking_at(session)

    @_said
    def detect(
        self,
        key: str,
        setting: Setting,
        *,
        texts: tuple[str, str, str],
        min_score: float,
        nms_iou: float,
        max_detections: int,
        one_name_per_place: bool,
    ) -> Shown:
        """Find names in the picture.

        Args:
            key: The visitor's.
            setting: Model and regions.
            texts: Names, negative names and prompts, as they were typed.
            min_score: See :class:`~regionclip.demo.actions.Request`, as for the others.
            nms_iou: Likewise.
            max_detections: Likewise.
            one_name_per_place: Likewise.
        """
        session = self.sessions.of(key)
        names, negatives, templates = checked_vocabulary(*texts)
        request = Request(
            names=names,
            negatives=negatives,
            templates=templates,
            num_regions=setting.num_regions,
            min_score=min_score,
            nms_iou=nms_iou,
            max_detections=max_detections,
            one_name_per_place=one_name_per_place,
        )
        detector = self.models.open(Choice(setting.model, setting.proposals))
        picture = session.picture
        found = detect(detector, picture, request)
        files = write_all(
            session.results_folder(),
            picture,
            found,
            model=setting.model,
            encoder_id=detector.encoder_id,
        )
        said, level = _summary(len(found.detections), found.num_proposals, request)
        warning = _about_foreign(names)
        return Shown(
            notice=viewing.notice(said, level) + viewing.notice(warning, "warning"),
            picture=viewing.picture_view(picture, found=found.detections),
            files=files,
        )

    @_said
    def name(
        self,
        key: str,
        setting: Setting,
        *,
        box: Sequence[float | int] | None,
        texts: tuple[str, str, str],
        num_nearest: int,
        step: Step,
    ) -> Shown:
        """Name a drawn box, and find the regions of all pictures that look most like it.

        Args:
            key: The visitor's.
            setting: Model and regions.
            box: ``None`` for the one drawn before.
            texts: As for :meth:`detect`.
            num_nearest: How many regions are shown.
            step: Told of each picture.
        """
        session = self.sessions.of(key)
        names, negatives, templates = checked_vocabulary(*texts)
        own = session.box("name", box)
        detector = self.models.open(Choice(setting.model, setting.proposals))
        picture, pictures = session.picture, list(session.pictures)
        scores = name_region(detector, picture, own, (*names, *negatives), templates)
        places = find_alike(
            detector,
            pictures,
            box_vector(detector, picture, own),
            num_regions=setting.num_regions,
            indexes=self._indexes,
            step=step,
        )
        nearest = elsewhere(places, session.current, own)[:num_nearest]
        rest = 1 - sum(score for _, score in scores)
        best = [*scores[:MAX_NAMES_SHOWN], ("none of these", max(0.0, rest))]
        return Shown(
            notice=viewing.notice(_about_foreign(names), "warning"),
            picture=viewing.picture_view(picture, drawn=own, is_drawable=True),
            results=f'<div class="rc-title">Names</div>{viewing.bars(best)}'
            f'<div class="rc-title">Nearest regions in {len(pictures)} pictures</div>'
            f"{viewing.crops(pictures, nearest)}",
        )

    @_said
    def find(
        self,
        key: str,
        setting: Setting,
        *,
        box: Sequence[float | int] | None,
        min_similarity: float,
        step: Step,
    ) -> Shown:
        """Find what a drawn box shows in all other pictures.

        Args:
            key: The visitor's.
            setting: Model and regions.
            box: ``None`` for the one drawn before.
            min_similarity: Least cosine of what counts as found.
            step: Told of each picture.
        """
        session = self.sessions.of(key)
        own = session.box("find", box)
        detector = self.models.open(Choice(setting.model, setting.proposals))
        picture, pictures = session.picture, list(session.pictures)
        if len(pictures) < 2:
            raise InputError("there is no other picture to look in; upload another")
        places = find_alike(
            detector,
            pictures,
            box_vector(detector, picture, own),
            num_regions=setting.num_regions,
            indexes=self._indexes,
            step=step,
        )
        others = [each for each in places if each.picture != session.current]
        alike = [each for each in others if each.similarity >= min_similarity]
        num_pictures = len({each.picture for each in alike})
        said = (
            f"{len(alike)} regions in {num_pictures} of {len(pictures) - 1} other pictures are "
            f"alike by {min_similarity:.2f} or more"
        )
        if not alike and others:
            said += f"; the best of all is alike by {others[0].similarity:.2f}: lower the threshold"
        return Shown(
            notice=viewing.notice(said, "info" if alike else "warning"),
            picture=viewing.picture_view(picture, drawn=own, is_drawable=True),
            results=viewing.pictures_with_places(pictures, alike, best_of=others),
        )

    @_said
    def heat(self, key: str, setting: Setting, *, phrase: str, templates: str, step: Step) -> Shown:
        """Colour the picture by how well a phrase fits."""
        session = self.sessions.of(key)
        detector = self.models.open(Choice(setting.model, setting.proposals))
        picture = session.picture
        heat = heat_map(detector, picture, phrase, templates=templates, step=step)
        said = (
            f"cosine similarity of {phrase.strip()!r} with {heat.num_windows} windows: "
            f"{float(heat.cells.min()):.3f} to {float(heat.cells.max()):.3f}. The colours show "
            "where it fits best in this picture, and not whether it is there at all"
        )
        warning = _about_foreign((phrase,))
        return Shown(
            notice=viewing.notice(said) + viewing.notice(warning, "warning"),
            picture=viewing.picture_view(picture, heat=heat),
        )


def _looking_at(session: Session) -> Shown:
    strip = viewing.strip_view(session.pictures, session.current)
    return Shown(strip=strip, picture=viewing.picture_view(session.picture))


def _summary(
    num_found: int, num_proposals: int | None, request: Request
) -> tuple[str, viewing.Level]:
    looked = "" if num_proposals is None else f" in {num_proposals} regions"
    names = f"{len(request.names)} name{'s' if len(request.names) > 1 else ''}"
    if request.negatives:
        names += f" and {len(request.negatives)} negative"
    if num_found == 0:
        return (
            f"nothing found of {names}{looked} with a score above {request.min_score:.2f}; lower "
            "the score threshold, take more regions, or try other names",
            "warning",
        )
    return f"{num_found} boxes found, of {names}{looked}", "info"


def _about_foreign(names: Sequence[str]) -> str:
    foreign = foreign_names(names)
    if not foreign:
        return ""
    shown = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
    return (
        f"{shown}: not written in Latin letters. Most CLIP models have read English captions only, "
        "so that their scores for it mean little; try the English name"
    )
