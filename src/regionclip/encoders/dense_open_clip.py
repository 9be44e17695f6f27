"""open_clip's models by name, as dense towers where a sound dense form is known."""

from collections.abc import Callable

from open_clip.transformer import VisionTransformer

from .crop_encoder import OpenClipEncoder
from .dense import DenseEncoder, NoDenseFormError
from .dense_timm import DenseConvNext, DenseOpenClipEva, DensePerceptionEncoder, DenseSigLip
from .vit import VitMaps
from .vit_blocks import blocks_of


class DenseOpenClipVit(VitMaps, OpenClipEncoder):
    """An open_clip model with a vision transformer and any text tower; a :class:`~.dense.DenseViT`.

    Attributes:
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
    """

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``.

        Raises:
            NoDenseFormError: Its image tower is none that :func:`~.vit_blocks.blocks_of` knows.
        """
        super().__init__(encoder.model, name=encoder.name, tokenize=encoder.tokenizer)
        visual = self.visual
        self.num_blocks = len(blocks_of(visual))
        self.width, _, self.cell, _ = visual.conv1.weight.shape
        self.embed_dim, self.image_size = visual.output_dim, self.image_size_hw[0]

    @property
    def visual(self) -> VisionTransformer:
        """The image tower."""
        visual = self.model.get_submodule("visual")
        if not isinstance(visual, VisionTransformer):
            raise NoDenseFormError(
                f"a {type(visual).__name__} is not open_clip's vision transformer"
            )
        return visual


_FORMS: tuple[Callable[[OpenClipEncoder], DenseEncoder], ...] = (
    DenseOpenClipVit,
    DenseOpenClipEva,
    DensePerceptionEncoder,
    DenseSigLip,
    DenseConvNext,
)


def dense_form_of(encoder: OpenClipEncoder) -> DenseEncoder | None:
    """The same weights as a dense tower.

    Returns:
        ``None`` where no sound dense form is known, so that regions need whole crops.
    """
    for form in _FORMS:
        try:
            return form(encoder)
        except NoDenseFormError:  # a tower of another kind
            continue
    return None
