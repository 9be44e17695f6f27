"""The models that a demo offers, each read when somebody first asks for it."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from regionclip.concepts.class_names import builtin_names
from regionclip.detect import Detector
from regionclip.encoders.text import MissingTextTower
from regionclip.loading import LoadOptions, Precision, check_known, load
from regionclip.loading.proposals import open_proposals
from regionclip.proposals.proposer import Proposer
from regionclip.weights import Progress

OWN = "the model's own"
GRID = "grid"
ICONS = "icons"
PHOTO_NAMES = ("person", "dog", "cat", "car", "bicycle", "tree", "chair", "cup")
"""What is looked for in photographs until somebody types something else."""
MOST_OWN_NAMES = 100
"""Of the classes that a model carries; more would fill the page."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a model's fields hold until somebody changes them.

    Attributes:
        names: To look for.
        num_regions: Most proposals that are looked at.
        min_score: In [0, 1].
        nms_iou: Overlap above which the weaker of two boxes of a name goes.
    """

    names: tuple[str, ...]
    num_regions: int
    min_score: float
    nms_iou: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model, and where its boxes come from.

    Attributes:
        model: One of the names offered.
        proposals: :data:`OWN`, or one of the sources offered.
    """

    model: str
    proposals: str = OWN


class Models:
    """Models by name, with any of the proposals offered.

    Attributes:
        names: Of the models, the first one first.
        proposals: Sources that may stand for a model's own proposals.
    """

    def __init__(
        self,
        names: Sequence[str] = (ICONS,),
        *,
        proposals: Sequence[str] = (),
        text_weights: str | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
        downloads: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    ) -> None:
        """Offer models; none is read yet.

        Args:
            names: What :func:`regionclip.load` takes.
            proposals: What :func:`regionclip.open_proposals` takes; a grid is always offered.
            text_weights: What :func:`regionclip.load` takes; lent to models without a text tower.
            device: As PyTorch names it.
            precision: What image towers compute in.
            downloads: Shows how far downloads are while its block runs.

        Raises:
            ValueError: No model is offered.
        """
        if not names:
            raise ValueError("a demo needs a model; name one, such as icons")
        self.names = tuple(dict.fromkeys(names))
        self.proposals = (OWN, *dict.fromkeys([*proposals, GRID]))
        self._text_weights = text_weights
        self._device = device
        self._precision: Precision = precision
        self._downloads = downloads
        self._open: dict[Choice, Detector] = {}
        self._proposers: dict[str, Proposer] = {}
        self._lock = threading.Lock()

    def open_at_start(self) -> None:
        """Read the first model, all that are files, and the proposals: what is wrong shows now.

        Models that have to be downloaded wait until they are chosen; whether their names are known
        shows now, too, and whether the models that are read can name anything.

        Raises:
            ValueError: A name is unknown, a file cannot be used, or one has no text tower.
            ConnectionError: What is needed now has to be downloaded and cannot be.
        """
        lenders = () if self._text_weights is None else (self._text_weights,)
        for name in (*self.names, *lenders):
            check_known(name)
        for source in self.proposals[1:]:
            self._proposer(source)
        for name in self.names:
            if name == self.names[0] or Path(name).exists():
                _check_words(name, self.open(Choice(name)))

    def open(self, choice: Choice) -> Detector:
        """The model with these proposals, which stays in memory.

        A model without proposals of its own takes the first source offered instead.

        Raises:
            ValueError: It is not offered, or its file cannot be used.
            ConnectionError: Its weights have to be downloaded and cannot be.
        """
        if choice.model not in self.names:
            raise ValueError(
                f"this demo does not offer the model {choice.model!r}; choose one of "
                f"{', '.join(self.names)}"
            )
        if choice.proposals not in self.proposals:
            raise ValueError(
                f"this demo does not offer the proposals {choice.proposals!r}; choose one of "
                f"{', '.join(self.proposals)}"
            )
        with self._lock:
            if choice not in self._open:
                self._open[choice] = self._opened(choice)
            return self._open[choice]

    def _opened(self, choice: Choice) -> Detector:
        own = Choice(choice.model)
        if own not in self._open:
            self._open[own] = self._with_proposals(self._loaded(choice.model))
        detector = self._open[own]
        if choice.proposals == OWN:
            return detector
        proposer = self._proposer(choice.proposals)
        return Detector(replace(detector.parts, proposer=proposer), detector.defaults)

    def _loaded(self, model: str) -> Detector:
        with self._downloads() as show:
            options = LoadOptions(progress=show)
            read = partial(
                load, model, device=self._device, precision=self._precision, options=options
            )
            detector = read()
            # those with a text tower of their own refuse another's
            encoder = detector.parts.encoder
            if self._text_weights is None or not isinstance(encoder, MissingTextTower):
                return detector
            return read(text_weights=self._text_weights)

    def _proposer(self, source: str) -> Proposer:
        if source not in self._proposers:
            with self._downloads() as show:
                self._proposers[source] = open_proposals(source, device=self._device, progress=show)
        return self._proposers[source]

    def _with_proposals(self, detector: Detector) -> Detector:
        parts = detector.parts
        if parts.proposer is not None or parts.localizer is not None:
            return detector
        proposer = self._proposer(self.proposals[1])
        return Detector(replace(parts, proposer=proposer), detector.defaults)

    def beginning(self, model: str) -> Beginning:
        """What to fill a model's fields with; the model is read.

        Raises:
            ValueError: As for :meth:`open`, like ``ConnectionError``.
            ConnectionError: See there.
        """
        detector = self.open(Choice(model))
        nms_iou = detector.defaults.selection.nms_iou
        if model == ICONS:
            # the shipped model knows pictograms and no others, and is sure of much
            return Beginning(builtin_names(ICONS), 100, 0.9, nms_iou)
        own = detector.parts.class_vocabulary
        names = own.names if own is not None and len(own) <= MOST_OWN_NAMES else PHOTO_NAMES
        # far fewer regions and higher scores than measurements take, which show all that there is
        return Beginning(names, 300, 0.3, nms_iou)


def _check_words(name: str, detector: Detector) -> None:
    """Refuse a model that knows no words: every request would fail."""
    try:
        detector.vocabulary(PHOTO_NAMES[:1], templates=("{}",))
    except ValueError as error:
        raise ValueError(f"{name} cannot be used here: {error}") from error
