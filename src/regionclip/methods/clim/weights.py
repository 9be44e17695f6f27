"""CLIM's released files: CLIPs of OpenAI's layout, which no tensor tells from OpenAI's own."""

from collections.abc import Mapping

from torch import Tensor

from regionclip.encoders.clip_weights import clip_spec_of, complete_clip
from regionclip.encoders.dense import usual_longest_side
from regionclip.encoders.vit_weights import Activation, is_clip_vit, vit_spec_of, without_extras
from regionclip.weights import WeightsEntry

from .config import ClimConfig

CLIP = "encoder.clip."


def is_clip(state: Mapping[str, Tensor]) -> bool:
    """Whether a file is a CLIP with both towers, with a vision transformer or a ResNet."""
    resnet = {"visual.attnpool.c_proj.weight", "text_projection"}
    return is_clip_vit(state) or resnet <= state.keys()


def map_weights(
    state: Mapping[str, Tensor], *, source: str, activation: Activation
) -> tuple[ClimConfig, dict[str, Tensor]]:
    """The model that a file of OpenAI's layout fills, and the file's tensors by its names.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file.
        activation: What a transformer's towers compute with; of ResNets it is always QuickGELU.

    Raises:
        CheckpointError: A tensor that tells the architecture is missing.
    """
    tower = without_extras(state)
    if is_clip_vit(state):
        spec = vit_spec_of(tower, source, activation=activation)
        config = ClimConfig(vit=spec, longest_side=usual_longest_side(spec.patch_size))
    else:
        tower = complete_clip(tower)
        config = ClimConfig(vit=None, resnet=clip_spec_of(tower, source), pooling="attention")
    return config, {CLIP + name: tensor for name, tensor in tower.items()}


_PAGE = "https://github.com/wusize/CLIM"


def _entry(file: str, title: str, *, variant: str, encoder: str) -> WeightsEntry:
    return WeightsEntry(
        file=file,
        title=title,
        source=_PAGE,
        licence="S-Lab License 1.0, non-commercial (the repository's)",
        method="clim",
        variant=variant,
        encoder=encoder,
        preprocessing="RGB in [0, 1], longer side 1024, filled up with black to a square, CLIP's "
        "mean and standard deviation; QuickGELU",
        how_to_get=f"download it with a browser from what {_PAGE} links",
    )


WEIGHTS: dict[str, WeightsEntry] = {
    "clim-coco-vitb16": _entry(
        "openai_vitb16_coco_clim.pt",
        "dense CLIP ViT-B/16, trained on captions of COCO",
        variant="openai-vitb16-coco",
        encoder="ViT-B-16",
    ),
    "clim-cc3m-vitb16": _entry(
        "openai_vitb16_cc3m_clim.pt",
        "dense CLIP ViT-B/16, trained on captions of CC3M",
        variant="openai-vitb16-cc3m",
        encoder="ViT-B-16",
    ),
    "clim-cc3m-rn50x64": _entry(
        "openai_rn50x64_cc3m_clim.pt",
        "dense CLIP RN50x64, trained on captions of CC3M",
        variant="openai-rn50x64-cc3m",
        encoder="RN50x64",
    ),
}
"""Files by friendly names; the originals' are linked to, not mirrored, so no hash is known."""
