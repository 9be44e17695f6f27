"""What CLIM's training may be told."""

from dataclasses import dataclass

from regionclip.pairs.mosaics import mosaic_sides


@dataclass(frozen=True, kw_only=True, slots=True)
class ClimTraining:
    """Mosaics of captioned images, and what learns from them.

    Source: CLIM (arXiv:2312.11376), sec. 3.2 and 4.1; wusize/CLIM@7baade3 (training scripts).
    """

    mosaic_sides: tuple[int, ...] = (2, 3, 4)
    """Tiles per side of the mosaics that a set of images makes, one of each; more if there are
    images for more."""
    images_per_set: int = 32
    """Consecutive images of a step that make mosaics together; those left over stay single. A step
    is a number of whole sets in every process, so that nothing depends on the processes."""
    mosaic_pixels: int = 1024
    """Pixels per side that a mosaic is resized to."""
    unlocked_groups: int = 6
    """Groups of the image tower that learn, counted from its end: blocks; of a ResNet what asks the
    attention pool, then layer4."""

    def __post_init__(self) -> None:
        mosaic_sides(self.images_per_set, self.mosaic_sides)
        if self.mosaic_pixels < 1 or self.unlocked_groups < 1:
            raise ValueError(
                f"mosaic_pixels and unlocked_groups must be positive, got {self.mosaic_pixels} and "
                f"{self.unlocked_groups}"
            )

    @property
    def num_singles(self) -> int:
        """Images of a set that are in no mosaic."""
        sides = mosaic_sides(self.images_per_set, self.mosaic_sides)
        return self.images_per_set - sum(side * side for side in sides)
