"""The interfaces of everything that says where in an image something may be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from regionclip.concepts.class_names import plain_name
from regionclip.regions.embedder import BatchView
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary


@runtime_checkable
class Proposer(Protocol):
    """Finds class-agnostic regions; any object with this method is one.

    A plug-in keeps to the following, and the rest of the package needs to know nothing about it:

    - **Input** is RGB in [0, 1] at the size the recogniser sees. A network that wants other
      channels, another range or another size converts inside itself.
    - **Boxes** come back as ``xyxy`` float32 in pixels of ``image.pixels``, inside the image, with
      positive sides. What is known in original pixels is divided by ``image.scale_xyxy``.
    - **Objectness** is a logit, unbounded, and rows are in its decreasing order. Boxes that were
      given rather than found have ``None`` and keep the giver's order.
    - **Results** are one per image, in the order of ``images``, on the proposer's device. No image
      gives no result; an image in which nothing is found gives zero rows.
    - **Batching** never shows: an image's proposals do not depend on the images beside it.
    """

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """Regions of each image."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NovelClasses:
    """Classes that a localiser looks for more than it would, as it learned from no box of theirs.

    Names are compared without what data sets differ in: underscores, blanks, upper case.
    """

    names: Sequence[str] | None = None
    """Those of a vocabulary that are novel. ``None``: all that the localiser was not trained on
    boxes of."""
    factor: float | None = None
    """How many times likelier they are taken to be; 1 favours none. ``None``: what the localiser
    was made for."""

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise ValueError(
                f"the names of novel classes are a sequence of names, got the text {self.names!r}; "
                f"write ({self.names!r},)"
            )
        if self.factor is not None and not self.factor > 0:
            raise ValueError(f"the factor of novel classes must be positive, got {self.factor}")

    def check_names(self, class_names: Sequence[str]) -> None:
        """Refuse a name that is not looked for: misspelt, it would favour nothing.

        Args:
            class_names: All that are looked for.

        Raises:
            ValueError: A novel name is not among them.
        """
        known = {plain_name(name) for name in class_names}
        unknown = [name for name in self.names or () if plain_name(name) not in known]
        if unknown:
            others = f", and {len(unknown) - 1} others are neither" if len(unknown) > 1 else ""
            raise ValueError(
                f"novel class {unknown[0]!r} is none of the {len(class_names)} classes that are "
                f"looked for ({', '.join(class_names[:5])}){others}; correct it, or leave it out"
            )


@runtime_checkable
class Localizer(Protocol):
    """Finds regions for given classes; any object with this method is one.

    It keeps to what :class:`Proposer` says, but for two things: its regions depend on what is
    asked for, and its boxes may reach outside the image, if that is how its recogniser wants them.
    """

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], BatchView]:
        """Regions of each image, and the images as the recogniser sees them.

        A localiser looks at images through the recogniser's own tower; what it saw goes on to the
        naming of the regions, so that no image is encoded twice.
        """
        ...
