"""The table of known weights that no method owns, and the way from an entry to a file."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .download import DownloadError, Progress, download_file

VISION_TRANSFORMERS = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336")
"""OpenAI's, by open_clip's names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsEntry:
    """All that is known about one released file.

    A file is downloaded if ``url`` is set; it comes with this package if ``bundled``; else it has
    to be fetched by hand, as ``how_to_get`` says.
    """

    file: str
    """Name in the cache folder, or in the package's ``assets``."""
    title: str
    """What it is, in one line."""
    source: str
    """Page that describes the release."""
    licence: str
    """Terms, and whose; says so where the weights themselves come without any."""
    method: str
    """Who reads it: a method of this package, or a library."""
    variant: str = ""
    """Entry of the method's ``VARIANTS``; empty if that is read from the file alone."""
    encoder: str = ""
    """CLIP architecture; empty for a proposal network."""
    preprocessing: str = ""
    """What the image must be like."""
    url: str | None = None
    """Where to download; ``None`` if no lasting address is known."""
    sha256: str | None = None
    """Hexadecimal digest, or its first characters if only these are published."""
    how_to_get: str = ""
    """For files without ``url``: a sentence."""
    bundled: bool = False
    """Comes with the package."""

    def __post_init__(self) -> None:
        ways = [self.url is not None, self.bundled, bool(self.how_to_get)]
        if sum(ways) != 1:
            raise ValueError(
                f"entry of {self.file} must have exactly one of url, bundled and how_to_get"
            )
        if self.url is not None and not re.fullmatch("[0-9a-f]{8,64}", self.sha256 or ""):
            raise ValueError(f"entry of {self.file} has a url but no sha256 to check it by")


def default_cache_folder() -> Path:
    """Where files are kept unless the caller says otherwise."""
    return Path.home() / ".cache" / "regionclip"


def fetch_weights(
    entry: WeightsEntry, *, cache_folder: Path | None = None, progress: Progress | None = None
) -> Path:
    """Find an entry's file on this machine, or download it.

    Args:
        entry: From a table of weights.
        cache_folder: By default :func:`default_cache_folder`. A file that lies there under the
            entry's name is taken as it is: it was checked when it came, or put there by hand.
        progress: Called as data arrives.

    Returns:
        Path of the file.

    Raises:
        DownloadError: It is not here and cannot be downloaded; the message says what to do.
    """
    if entry.bundled:
        return Path(str(files("regionclip") / "assets" / entry.file))
    path = (default_cache_folder() if cache_folder is None else cache_folder) / entry.file
    if path.is_file():
        return path
    if entry.url is None or entry.sha256 is None:
        raise DownloadError(
            f"{entry.file} cannot be downloaded by program: {entry.how_to_get}; then give its path "
            f"instead of the name, or save it as {path}"
        )
    return download_file(entry.url, path, sha256=entry.sha256, progress=progress)


def find_entry(name: str, entries: Mapping[str, WeightsEntry]) -> WeightsEntry:
    """Look up a name.

    Raises:
        ValueError: It is unknown; the message proposes what may have been meant.
    """
    if name in entries:
        return entries[name]
    similar = difflib.get_close_matches(name, entries, n=3)
    meant = f"did you mean {' or '.join(similar)}?" if similar else "'regionclip models list' tells"
    raise ValueError(f"no file and no known weights are called {name!r}; {meant}")


def shared_weights() -> dict[str, WeightsEntry]:
    """Weights that no method owns: CLIP's and torchvision's detectors, for their RPN.

    Addresses and hashes are read from open_clip's and torchvision's own tables.
    """
    return _open_clip_weights() | _torchvision_weights()


def _open_clip_weights() -> dict[str, WeightsEntry]:
    """Names are ``<tag>:<architecture>``, such as ``openai:RN50``."""
    from open_clip import get_pretrained_cfg, list_pretrained

    entries = {}
    for architecture, tag in list_pretrained():
        is_resnet = re.fullmatch(r"RN\d+(x\d+)?", architecture) is not None
        # of vision transformers OpenAI's alone: others' files do not tell their activation
        if not (is_resnet or (tag == "openai" and architecture in VISION_TRANSFORMERS)):
            continue
        released = get_pretrained_cfg(architecture, tag)
        url = released["url"]
        # OpenAI puts the hash into the folder's name, open_clip at the end of the file's
        digest = url.split("/")[-2] if tag == "openai" else Path(url).stem.rsplit("-", 1)[-1]
        activation = "QuickGELU" if released["quick_gelu"] else "GELU"
        entries[f"{tag}:{architecture}"] = WeightsEntry(
            file=f"{tag}-{architecture}.pt",
            title=f"CLIP {architecture} trained on {'WebImageText' if tag == 'openai' else tag}",
            source="https://github.com/openai/CLIP"
            if tag == "openai"
            else "https://github.com/mlfoundations/open_clip",
            licence="MIT (the code's; none stated for the weights)",
            method="regionclip" if is_resnet else "clim",
            encoder=architecture,
            preprocessing=f"RGB in [0, 1], CLIP's mean and standard deviation; {activation} in "
            f"the {'text tower' if is_resnet else 'towers'}",
            url=url,
            sha256=digest,
        )
    return entries


def _torchvision_weights() -> dict[str, WeightsEntry]:
    """Names are ``torchvision:<architecture>``."""
    from torchvision.models import get_model_weights

    entries = {}
    for architecture in ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"):
        weights = get_model_weights(architecture)["COCO_V1"]
        entries[f"torchvision:{architecture}"] = WeightsEntry(
            file=Path(weights.url).name,
            title="proposals, ResNet-50 FPN, trained on all COCO classes",
            source="https://github.com/pytorch/vision/tree/main/references/detection",
            licence="BSD-3-Clause (the code's; none stated for the weights)",
            method="torchvision",
            variant=architecture,
            preprocessing="RGB in [0, 1]; the detector normalises and resizes inside",
            url=weights.url,
            sha256=Path(weights.url).stem.rsplit("-", 1)[-1],
        )
    return entries
