"""CLIPSelf's released files and EVA-CLIP's, which are of one layout."""

from collections.abc import Mapping

from torch import Tensor

from regionclip.encoders.dense import usual_longest_side
from regionclip.encoders.eva_weights import eva_spec_of, eva_tensors
from regionclip.weights import WeightsEntry

from .config import VARIANTS, ClipSelfConfig

CLIP = "encoder.clip."


def map_weights(
    state: Mapping[str, Tensor], *, source: str
) -> tuple[ClipSelfConfig, dict[str, Tensor]]:
    """The model that an EVA-02 CLIP's file fills, and the file's tensors by its names.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file.

    Raises:
        CheckpointError: A tensor that tells the architecture is missing.
    """
    tower = eva_tensors(state, source=source)
    spec = eva_spec_of(tower, source)
    known = (config for config in VARIANTS.values() if config.encoder == spec)
    longest_side = usual_longest_side(spec.patch_size)
    config = next(known, ClipSelfConfig(encoder=spec, longest_side=longest_side))
    return config, {CLIP + name: tensor for name, tensor in tower.items()}


_PAGE = "https://github.com/wusize/CLIPSelf"
_EVA_PAGE = "https://huggingface.co/QuanSun/EVA-CLIP"
_SIZES = {"vitb16": ("EVA02-B-16", 1024), "vitl14": ("EVA02-L-14-336", 896)}


def _preprocessing(longest_side: int) -> str:
    return (
        f"RGB in [0, 1], longer side {longest_side}, filled up with black to a square, CLIP's mean "
        "and standard deviation"
    )


def _trained(size: str, images: str, source: str) -> WeightsEntry:
    encoder, longest_side = _SIZES[size]
    return WeightsEntry(
        file=f"eva_{size}_{images}_clipself_{source}.pt",
        title=f"dense {encoder}, taught by its own crops ({source}) of {images.upper()}",
        source=_PAGE,
        licence="S-Lab License 1.0, non-commercial (the repository's)",
        method="clipself",
        variant=f"eva-{size}-{images}",
        encoder=encoder,
        preprocessing=_preprocessing(longest_side),
        how_to_get=f"download it with a browser from what {_PAGE} links",
    )


def _plain(size: str, file: str) -> WeightsEntry:
    encoder, longest_side = _SIZES[size]
    return WeightsEntry(
        file=file,
        title=f"{encoder} as EVA-CLIP released it, with its untrained dense map",
        source=_EVA_PAGE,
        licence="MIT",
        method="clipself",
        encoder=encoder,
        preprocessing=_preprocessing(longest_side),
        how_to_get=f"download it from {_EVA_PAGE}",
    )


WEIGHTS: dict[str, WeightsEntry] = {
    f"clipself-{images}-{size}-{source}": _trained(size, images, source)
    for size in _SIZES
    for images, source in (("coco", "patches"), ("coco", "proposals"), ("lvis", "patches"))
} | {
    "eva02-clip-vitb16": _plain("vitb16", "EVA02_CLIP_B_psz16_s8B.pt"),
    "eva02-clip-vitl14-336": _plain("vitl14", "EVA02_CLIP_L_336_psz14_s6B.pt"),
}
"""Files by friendly names; they are linked to, not mirrored, so no hash is known."""
