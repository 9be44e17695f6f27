"""Any open_clip model as an encoder of whole crops."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import open_clip
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .fingerprint import text_fingerprint
from .text import TextEncoder
from .tokenizer import first_tokens


@runtime_checkable
class CropEncoder(TextEncoder, Protocol):
    """A module whose image tower sees whole crops; most encoders are.

    Attributes:
        image_size_hw: Height and width that the image tower takes.
    """

    image_size_hw: tuple[int, int]

    @property
    def mean(self) -> Sequence[float]:
        """Per channel, of RGB in [0, 1]."""
        ...

    @property
    def std(self) -> Sequence[float]:
        """Per channel, of RGB in [0, 1]."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """All of the module's parts."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """Vectors, not normalised, of normalised images of ``image_size_hw``."""
        ...


class OpenClipEncoder(nn.Module):
    """An open_clip model (ViT, ConvNeXt, SigLIP, ...) whose image tower sees whole crops.

    Attributes:
        model: open_clip's module.
        tokenizer: The model's own, as open_clip has it.
        image_size_hw: Height and width that the image tower takes.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
        reading: See :class:`~.text.TextEncoder`.
    """

    reading = ""

    def __init__(self, model: nn.Module, *, name: str, tokenize: Callable[..., Tensor]) -> None:
        """Wrap a built model.

        Args:
            model: From ``open_clip.create_model``.
            name: open_clip's name of the architecture; goes into ``encoder_id``.
            tokenize: The model's own tokenizer.
        """
        super().__init__()
        self.model = model
        self.name = name
        self.tokenizer = tokenize
        config = open_clip.get_model_preprocess_cfg(model)
        size = config["size"]
        self.image_size_hw = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.mean: tuple[float, float, float] = tuple(config["mean"])
        self.std: tuple[float, float, float] = tuple(config["std"])

    @classmethod
    def create(
        cls,
        architecture: str,
        pretrained: str | None = None,
        *,
        quick_gelu: bool = False,
        pixels: Mapping[str, Sequence[float]] | None = None,
    ) -> "OpenClipEncoder":
        """Build an architecture by open_clip's names, with its released weights if named.

        Args:
            architecture: open_clip's name.
            pretrained: Tag of released weights; ``None`` begins with random ones.
            quick_gelu: Take QuickGELU also where neither the architecture nor the weights say so.
            pixels: ``mean`` and ``std``, per channel of RGB in [0, 1]; ``None`` takes those of the
                released weights, or OpenAI's.

        Raises:
            ValueError: open_clip does not know the architecture, or not with those weights.
        """
        check_released(architecture, pretrained)
        released = (
            {} if pretrained is None else open_clip.get_pretrained_cfg(architecture, pretrained)
        )
        # open_clip takes the architecture's activation and only warns where the weights' is another
        model = open_clip.create_model(
            architecture,
            pretrained=pretrained,
            force_quick_gelu=quick_gelu or bool(released.get("quick_gelu", False)),
            force_preprocess_cfg=None if pixels is None else dict(pixels),
        )
        return cls(model.eval(), name=architecture, tokenize=open_clip.get_tokenizer(architecture))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @property
    def encoder_id(self) -> str:
        """Architecture and fingerprint of the text tower; hashed at each call."""
        return f"{self.name}:{text_fingerprint(self.model.state_dict())}"

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Vectors, not normalised, of normalised images of ``image_size_hw``."""
        return self.model.get_submodule("visual")(images)

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Token ids by the model's own tokenizer."""
        return self.tokenizer(list(texts))

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """As :meth:`tokenize`, but a text that is too long loses its end token."""
        context = self.tokenize([""]).shape[1]
        return first_tokens(self.tokenizer, texts, context_length=context)

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors, not normalised."""
        # the text tower takes its whole context; padding that was cut off comes back as zeros
        context = int(getattr(self.model, "context_length", tokens.shape[1]))
        padding = tokens.new_zeros(len(tokens), context - tokens.shape[1])
        encode: Callable[[Tensor], Tensor] = getattr(self.model, "encode_text")  # noqa: B009
        return encode(torch.cat([tokens, padding], dim=1).to(self.device))


def check_released(architecture: str, pretrained: str | None = None) -> None:
    """Refuse names that open_clip does not know.

    Args:
        architecture: open_clip's name.
        pretrained: Tag of released weights, if some are meant.

    Raises:
        ValueError: It does not know the architecture, or not with those weights.
    """
    if architecture not in open_clip.list_models():
        raise ValueError(
            f"unknown open_clip architecture {architecture!r}; open_clip.list_models() lists "
            f"{len(open_clip.list_models())}, such as 'ViT-B-32'"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained is not None and pretrained not in tags:
        raise ValueError(
            f"open_clip has no weights {pretrained!r} for {architecture}; expected one of "
            f"{', '.join(tags)}"
        )


def image_input(encoder: CropEncoder) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Height and width, mean and standard deviation ``(3, 1, 1)`` that whole images take."""
    mean, std = torch.tensor(encoder.mean), torch.tensor(encoder.std)
    return encoder.image_size_hw, mean[:, None, None], std[:, None, None]
