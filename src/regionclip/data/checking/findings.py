"""The kinds of things that may be wrong with a data set, and what becomes of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Effect = Literal["refused", "left out", "displaced", "clipped", "kept"]
NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        title: What was found, in the plural.
        effect: In a word. The data set is refused; objects or images are left out; boxes lie beside
            their objects; boxes are clipped; everything is kept and used.
        consequence: The same in a sentence, for training and for evaluation.
    """

    title: str
    effect: Effect
    consequence: str

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is refused, left out or displaced."""
        return self.effect in ("clipped", "kept")


@dataclass(frozen=True, slots=True)
class Finding:
    """How often a kind was found, and where first."""

    kind: Kind
    number: int
    examples: tuple[str, ...]


class Findings:
    """Counts cases by kind, and keeps the first few of each."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, key: str, example: str) -> None:
        """Count a case.

        Args:
            key: Of :data:`KINDS`.
            example: Where it is.
        """
        self._numbers[key] = self._numbers.get(key, 0) + 1
        examples = self._examples.setdefault(key, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(example)

    def copy(self) -> "Findings":
        """The same, to be added to."""
        twin = Findings()
        twin._numbers = dict(self._numbers)
        twin._examples = {key: list(examples) for key, examples in self._examples.items()}
        return twin

    def found(self) -> tuple[Finding, ...]:
        """All that was found, in the order of :data:`KINDS`."""
        return tuple(
            Finding(kind, self._numbers[key], tuple(self._examples[key]))
            for key, kind in KINDS.items()
            if key in self._numbers
        )


REFUSED = "neither training nor evaluation opens the data set"
UNREADABLE = (
    "{training}; evaluation counts each as an image in which nothing was found; a YOLO folder with "
    "labels for one is refused"
)
NOT_FINDABLE = "training leaves them out; evaluation counts them as objects that nobody can find"
KINDS: Mapping[str, Kind] = {
    "unusable image": Kind("image entries that cannot be used", "refused", REFUSED),
    "image id": Kind("image ids that occur twice", "refused", REFUSED),
    "image name": Kind("image files that are listed twice", "refused", REFUSED),
    "unusable category": Kind("categories without id or name", "refused", REFUSED),
    "category id": Kind("category ids that occur twice", "refused", REFUSED),
    "category name": Kind("category names that occur twice", "refused", REFUSED),
    "unknown category": Kind("objects of categories that are not listed", "refused", REFUSED),
    "unusable annotation": Kind("annotations that cannot be read", "refused", REFUSED),
    "unknown image": Kind(
        "annotations of images that are not listed",
        "left out",
        "training and evaluation leave them out, with a warning",
    ),
    "missing image": Kind(
        "images that are not there",
        "left out",
        UNREADABLE.format(training="training does not begin before they are there"),
    ),
    "broken image": Kind(
        "images that cannot be read",
        "left out",
        UNREADABLE.format(training="training takes the next image instead, and its log names them"),
    ),
    "degenerate box": Kind(
        "boxes with a side of 1e-5 pixels or less",
        "left out",
        NOT_FINDABLE,
    ),
    "box outside": Kind(
        "boxes wholly outside the image",
        "left out",
        NOT_FINDABLE,
    ),
    "other size": Kind(
        "images of another size than annotated",
        "displaced",
        "boxes are taken as pixels of the file as it is, and lie beside their objects if they were "
        "drawn on another size",
    ),
    "turned image": Kind(
        "images that were annotated before an EXIF turn",
        "displaced",
        "images are turned upright when they are read and their boxes are not, so boxes lie beside "
        "their objects; turn the files for good, or the annotations",
    ),
    "box partly outside": Kind(
        "boxes partly outside the image",
        "clipped",
        "training clips them to the image; evaluation takes them as they are",
    ),
    "perhaps turned image": Kind(
        "images with an EXIF turn that keeps their size",
        "kept",
        "they are turned upright when they are read; look whether the boxes fit, for sizes do not "
        "tell whether they were drawn before or after",
    ),
    "annotation id": Kind(
        "annotation ids that occur twice",
        "kept",
        "training and evaluation use all of them and number anew; other tools keep the last",
    ),
    "crowd": Kind(
        "crowds (iscrowd)",
        "kept",
        "training leaves them out; in evaluation what is found in them counts neither way",
    ),
    "difficult": Kind(
        "difficult objects (VOC's difficult, ignore in a json)",
        "kept",
        "training and COCO's metrics take them as any other; Pascal VOC's metrics do not count "
        "them",
    ),
    "image without boxes": Kind(
        "images without boxes",
        "kept",
        "they show background only; in evaluation what is found there counts as wrong",
    ),
    "image without captions": Kind("images without captions", "kept", "they belong to no pair"),
    "category without boxes": Kind(
        "categories without boxes",
        "kept",
        "training sees no example of them; evaluation leaves them out of its means",
    ),
}
"""In the order in which they are reported."""
