"""The models that a demo offers, each read when somebody first asks for it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from regionclip.concepts.class_names import builtin_names
from regionclip.detect import Detector
from regionclip.loading import Precision, load
from regionclip.loading.proposals import open_proposals

OWN = "the model's own"
GRID = "grid"
ICONS = "icons"
PHOTO_NAMES = ("person", "dog", "cat", "car", "bicycle", "tree", "chair", "cup")
"""What is looked for in photographs until somebody types something else."""


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
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        """Offer models; none is read yet.

        Args:
            names: What :func:`regionclip.load` takes.
            proposals: What :func:`regionclip.open_proposals` takes; a grid is always offered.
            device: As PyTorch names it.
            precision: What image towers compute in.

        Raises:
            ValueError: No model is offered.
        """
        if not names:
            raise ValueError("a demo needs a model; name one, such as icons")
        self.names = tuple(dict.fromkeys(names))
        self.proposals = (OWN, *dict.fromkeys([*proposals, GRID]))
        self._device = device
        self._precision: Precision = precision
        self._open: dict[Choice, Detector] = {}
        self._lock = threading.Lock()

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
            self._open[own] = self._with_proposals(
                load(choice.model, device=self._device, precision=self._precision)
            )
        detector = self._open[own]
        if choice.proposals == OWN:
            return detector
        proposer = open_proposals(choice.proposals, device=self._device)
        return Detector(replace(detector.parts, proposer=proposer), detector.defaults)

    def _with_proposals(self, detector: Detector) -> Detector:
        parts = detector.parts
        if parts.proposer is not None or parts.localizer is not None:
            return detector
        proposer = open_proposals(self.proposals[1], device=self._device)
        return Detector(replace(parts, proposer=proposer), detector.defaults)


def names_to_begin_with(model: str) -> tuple[str, ...]:
    """What a visitor finds typed already: the shipped model knows pictograms, and no others."""
    return builtin_names(ICONS) if model == ICONS else PHOTO_NAMES


def score_to_begin_with(model: str) -> float:
    """The lowest score shown at first; the shipped model is sure of much."""
    return 0.9 if model == ICONS else 0.3
