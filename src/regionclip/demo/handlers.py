"""One method per thing that a visitor can do: from what the page sends to what it shows.

Numbers and texts come as the browser sent them, and are checked here. No method raises for what a
visitor did; what went wrong becomes a notice.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from regionclip.data.images import read_image
from regionclip.detect import Detector

from . import viewing
from .actions import (
    Indexes,
    Request,
    Step,
    detect,
    elsewhere,
    find_alike,
    look_into,
    name_region,
)
from .downloads import write_all
from .heat_map import heat_map
from .inputs import (
    MAX_BOXES,
    MIN_SCORE,
    MIN_SIMILARITY,
    NMS_IOU,
    NUM_NEAREST,
    NUM_REGIONS,
    InputError,
    checked_vocabulary,
    foreign_names,
)
from .models import Beginning, Choice, Models
from .sessions import ENDED, Drawn, Look, Session, Sessions

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
        beginning: What the fields of a model begin with.
    """

    notice: str = ""
    strip: View | None = None
    picture: View | None = None
    results: str = ""
    files: Sequence[Path] | None = None
    beginning: Beginning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds for all tabs, as it was sent."""

    model: str
    proposals: str
    num_regions: float | int | None


def _said(method: Method) -> Method:
    """Turn what goes wrong into a notice."""

    @wraps(method)
    def careful(handlers: "Handlers", key: str, *args: Any, **kwargs: Any) -> Shown:
        try:
            return method(handlers, key, *args, **kwargs)
        except Exception as error:
            if key not in handlers.sessions:  # its files went while they were read
                text = ENDED
            elif isinstance(error, ValueError | ConnectionError):
                text = str(error)
            else:
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
        """Show the pictures of a visitor who has come."""
        return _looking_at(self.sessions.begin(key))

    @_said
    def upload(self, key: str, path: str | None) -> Shown:
        """Take a picture."""
        session = self.sessions.of(key)
        if path is None:
            raise InputError("nothing has arrived; choose an image file, or paste one")
        session.add(Path(path))
        return _looking_at(session)

    @_said
    def pick(self, key: str, place: int) -> Shown:
        """Look at another picture."""
        session = self.sessions.of(key)
        session.look_at(place)
        return _looking_at(session)

    @_said
    def choose(self, key: str, model: str) -> Shown:
        """Read a model, and say what its fields begin with."""
        self.sessions.of(key)
        return Shown(beginning=self.models.beginning(model))

    @_said
    def detect(
        self,
        key: str,
        setting: Setting,
        *,
        texts: tuple[str | None, str | None, str | None],
        min_score: float | int | None,
        nms_iou: float | int | None,
        max_detections: float | int | None,
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
        look = session.look()
        names, negatives, templates = checked_vocabulary(*texts)
        request = Request(
            names=names,
            negatives=negatives,
            templates=templates,
            num_regions=NUM_REGIONS.whole(setting.num_regions),
            min_score=MIN_SCORE.number(min_score),
            nms_iou=NMS_IOU.number(nms_iou),
            max_detections=MAX_BOXES.whole(max_detections),
            one_name_per_place=one_name_per_place,
        )
        detector = self._open(setting)
        image = read_image(look.picture.path)
        found = detect(detector, look.picture, request, image=image)
        files = write_all(
            session.results_folder(),
            look.picture,
            found,
            image=image,
            model=setting.model,
            encoder_id=detector.encoder_id,
        )
        said, level = _summary(len(found.detections), found.num_proposals, request)
        warning = _about_foreign(names)
        return _unless_gone_on(
            session,
            look,
            Shown(
                notice=viewing.notice(said, level) + viewing.notice(warning, "warning"),
                picture=viewing.picture_view(look, found=found.detections),
                files=files,
            ),
        )

    @_said
    def name(
        self,
        key: str,
        setting: Setting,
        *,
        drawn: Drawn | None,
        texts: tuple[str | None, str | None, str | None],
        num_nearest: float | int | None,
        step: Step,
    ) -> Shown:
        """Name a drawn box, and find the regions of all pictures that look most like it.

        Args:
            key: The visitor's.
            setting: Model and regions.
            drawn: ``None`` for the box drawn before.
            texts: As for :meth:`detect`.
            num_nearest: How many regions are shown.
            step: Told of each picture.
        """
        session = self.sessions.of(key)
        look = session.look()
        own = session.box("name", drawn, look)
        names, negatives, templates = checked_vocabulary(*texts)
        count = NUM_NEAREST.whole(num_nearest)
        num_regions = NUM_REGIONS.whole(setting.num_regions)
        detector = self._open(setting)
        region = look_into(detector, look.pictures, look.place, own)
        scores = name_region(detector, region, (*names, *negatives), templates)
        places = find_alike(
            detector,
            look.pictures,
            region,
            num_regions=num_regions,
            indexes=self._indexes,
            step=step,
        )
        nearest = elsewhere(places, region)[:count]
        shown = [(name, score) for name, score in scores if name not in negatives]
        rest = 1 - sum(score for _, score in shown)
        best = [*shown[:MAX_NAMES_SHOWN], ("none of these", max(0.0, rest))]
        return _unless_gone_on(
            session,
            look,
            Shown(
                notice=viewing.notice(_about_foreign(names), "warning"),
                picture=viewing.picture_view(look, drawn=own, is_drawable=True),
                results=f'<div class="rc-title">Names</div>{viewing.bars(best)}'
                f'<div class="rc-title">Nearest regions in {len(look.pictures)} pictures</div>'
                f"{viewing.crops(look.pictures, nearest)}",
            ),
        )

    @_said
    def find(
        self,
        key: str,
        setting: Setting,
        *,
        drawn: Drawn | None,
        min_similarity: float | int | None,
        step: Step,
    ) -> Shown:
        """Find what a drawn box shows in all other pictures.

        Args:
            key: The visitor's.
            setting: Model and regions.
            drawn: ``None`` for the box drawn before.
            min_similarity: Least cosine of what counts as found.
            step: Told of each picture.
        """
        session = self.sessions.of(key)
        look = session.look()
        own = session.box("find", drawn, look)
        least = MIN_SIMILARITY.number(min_similarity)
        num_regions = NUM_REGIONS.whole(setting.num_regions)
        num_others = len(look.pictures) - 1
        if num_others == 0:
            raise InputError("there is no other picture to look in; upload another")
        detector = self._open(setting)
        places = find_alike(
            detector,
            look.pictures,
            look_into(detector, look.pictures, look.place, own),
            num_regions=num_regions,
            indexes=self._indexes,
            step=step,
        )
        others = [each for each in places if each.picture != look.place]
        alike = [each for each in others if each.similarity >= least]
        num_pictures = len({each.picture for each in alike})
        said = (
            f"{viewing.counted(len(alike), 'region', 'regions')} alike by {least:.2f} or more, in "
            f"{num_pictures} of {viewing.counted(num_others, 'other picture', 'other pictures')}"
        )
        if not alike and others:
            said += f"; the best of all is alike by {others[0].similarity:.2f}: lower the threshold"
        return _unless_gone_on(
            session,
            look,
            Shown(
                notice=viewing.notice(said, "info" if alike else "warning"),
                picture=viewing.picture_view(look, drawn=own, is_drawable=True),
                results=viewing.pictures_with_places(look.pictures, alike, best_of=others),
            ),
        )

    @_said
    def heat(
        self,
        key: str,
        setting: Setting,
        *,
        phrase: str | None,
        templates: str | None,
        step: Step,
    ) -> Shown:
        """Colour the picture by how well a phrase fits."""
        session = self.sessions.of(key)
        look = session.look()
        detector = self._open(setting)
        heat = heat_map(detector, look.picture, phrase, templates=templates, step=step)
        said = (
            f"cosine similarity of {heat.phrase!r} with {heat.num_windows} windows: "
            f"{float(heat.cells.min()):.3f} to {float(heat.cells.max()):.3f}. The colours show "
            "where it fits best in this picture, and not whether it is there at all"
        )
        warning = _about_foreign((heat.phrase,))
        return _unless_gone_on(
            session,
            look,
            Shown(
                notice=viewing.notice(said) + viewing.notice(warning, "warning"),
                picture=viewing.picture_view(look, heat=heat),
            ),
        )

    def _open(self, setting: Setting) -> Detector:
        return self.models.open(Choice(setting.model, setting.proposals))


def _looking_at(session: Session) -> Shown:
    look = session.look()
    return Shown(strip=viewing.strip_view(look), picture=viewing.picture_view(look))


def _unless_gone_on(session: Session, look: Look, shown: Shown) -> Shown:
    """The result, whose making took its time; not if another picture is looked at by now."""
    session.check_looks_at(look)
    return shown


def _summary(
    num_found: int, num_proposals: int | None, request: Request
) -> tuple[str, viewing.Level]:
    looked = ""
    if num_proposals is not None:
        looked = f" in {viewing.counted(num_proposals, 'region', 'regions')}"
    names = viewing.counted(len(request.names), "name", "names")
    if request.negatives:
        names += f" and {len(request.negatives)} negative"
    if num_found == 0:
        return (
            f"nothing found of {names}{looked} with a score above {request.min_score:.2f}; lower "
            "the score threshold, take more regions, or try other names",
            "warning",
        )
    return f"{viewing.counted(num_found, 'box', 'boxes')} found, of {names}{looked}", "info"


def _about_foreign(names: Sequence[str]) -> str:
    foreign = foreign_names(names)
    if not foreign:
        return ""
    shown = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
    return (
        f"{shown}: not written in Latin letters. Most CLIP models have read English captions only, "
        "so that their scores for it mean little; try the English name"
    )
