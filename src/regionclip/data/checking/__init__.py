"""What is wrong with a data set, and what becomes of it: reads what the readers refuse, too."""

from .examining import CheckReport, ClassCount, examine
from .findings import KINDS, Finding, Kind
from .images import ImageFacts, open_images
from .listing import Listing
from .locating import list_dataset

__all__ = [
    "KINDS",
    "CheckReport",
    "ClassCount",
    "Finding",
    "ImageFacts",
    "Kind",
    "Listing",
    "examine",
    "list_dataset",
    "open_images",
]
