"""Known weights: where they come from, under which terms, and how to get them here."""

from .download import DownloadError, Progress, download_file
from .registry import WeightsEntry, default_cache_folder, fetch_weights, find_entry, shared_weights

__all__ = [
    "DownloadError",
    "Progress",
    "WeightsEntry",
    "default_cache_folder",
    "download_file",
    "fetch_weights",
    "find_entry",
    "shared_weights",
]
