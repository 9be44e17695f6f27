"""What CLIPSelf's training, and that of the baseline on pseudo labels, may be told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSelfTraining:
    """How an image tower teaches itself.

    Source: CLIPSelf (arXiv:2310.01403), sec. 3.2 and 4.1; wusize/CLIPSelf@1c7fe9c (training
    scripts).
    """

    unlocked_groups: int = 12
    """Blocks of the image tower that learn, counted from its end; 24 for ViT-L/14."""
    image_sides: tuple[int, ...] = ()
    """Pixels per side that a step's images are resized to before the tower sees them; one is drawn
    for each step. None leaves them as they were read; the original's ``--multiscale`` has 320, 640,
    896 and 1024."""

    def __post_init__(self) -> None:
        if self.unlocked_groups < 1:
            raise ValueError(f"unlocked_groups must be positive, got {self.unlocked_groups}")
        if self.image_sides and min(self.image_sides) < 1:
            raise ValueError(f"image_sides must be positive, got {self.image_sides}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabelTraining:
    """How an image tower learns the names that somebody gave to boxes.

    Source: the baseline "RegionCLIP" of CLIPSelf (arXiv:2310.01403), sec. 4;
    wusize/CLIPSelf@1c7fe9c (``region_clip``).
    """

    unlocked_groups: int = 12
    """Blocks of the image tower that learn, counted from its end; 24 for ViT-L/14."""
    classes_per_step: int = 100
    """Names that the boxes of a step are told apart from: those that occur, and others by chance;
    if more occur, all of those."""

    def __post_init__(self) -> None:
        if self.unlocked_groups < 1 or self.classes_per_step < 1:
            raise ValueError(
                f"unlocked_groups and classes_per_step must be positive, got "
                f"{self.unlocked_groups} and {self.classes_per_step}"
            )
