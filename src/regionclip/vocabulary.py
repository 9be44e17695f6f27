"""Class names with their vectors and the encoder that made them, kept together."""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import open_clip
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from regionclip.checkpoints import BARE_TENSOR, CheckpointError, read_checkpoint, save_tensors
from regionclip.concepts.class_names import builtin_names, checked_names, read_names
from regionclip.concepts.templates import prompt_templates
from regionclip.data.images import read_image
from regionclip.data.transforms import pixels_of
from regionclip.encoders.crop_encoder import CropEncoder
from regionclip.encoders.text import TextEncoder, class_embeddings
from regionclip.regions.crops import CropRegions
from regionclip.structures import ImageSource, PreparedImage

__all__ = ["Vocabulary", "VocabularyCache", "builtin_names", "read_names"]

FORMAT = "regionclip-vocabulary/1"

REMEMBERED_BYTES = 256 << 20
"""Embeddings that a detector, and a service beside it, each keep for names that may be asked for
again: 54 lists of 1203 names in RN50's space, or tens of thousands of short ones."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What a detector tells apart; made once, used for any number of images.

    Attributes:
        names: One per class, in the order of the labels, each once.
        embeddings: One row per class, not normalised.
        templates: Sentences that the names were put into; empty for classes made from images or
            read from a file that does not say.
        encoder_id: The joint space of the rows, as the encoder calls it.

    Raises:
        ValueError: The numbers of names and rows differ, a name is empty or occurs twice, or a
            row holds NaN or infinity.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "C D"]
    templates: tuple[str, ...]
    encoder_id: str

    def __post_init__(self) -> None:
        checked_names(self.names)
        if len(self.names) != len(self.embeddings):
            raise ValueError(
                f"{len(self.names)} names for {len(self.embeddings)} embeddings; give one name "
                "per row, in the order of the rows"
            )
        finite = self.embeddings.isfinite().all(dim=1)
        if not finite.all():
            raise ValueError(
                f"the embedding of {self.names[int((~finite).nonzero()[0])]!r} holds NaN or "
                "infinity; encode the names again"
            )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        encoder: TextEncoder,
        *,
        templates: str | Sequence[str] = "imagenet80",
        batch_size: int = 256,
        progress: Callable[[int], None] | None = None,
        encoder_id: str | None = None,
    ) -> "Vocabulary":
        """Encode names: each is put into every template, and the vectors are averaged.

        Args:
            names: Class names; for those of a data set see :func:`builtin_names`, for those of a
                file :func:`read_names`.
            encoder: Its text tower makes the vectors.
            templates: A built-in set of prompt templates (``imagenet80``, ``openai80``, ``photo``,
                ``none``), or your own with ``{}`` for the name.
            batch_size: Prompts per forward pass.
            progress: Called after each batch with the number of prompts it held.
            encoder_id: The encoder's own, from a caller that has asked before: every answer reads
                all of the text tower.

        Raises:
            ValueError: The names or templates are not usable.
        """
        names, sentences = checked_names(names), prompt_templates(templates)
        rows = class_embeddings(encoder, names, sentences, batch_size=batch_size, progress=progress)
        # a copy leaves inference mode, so that a loss may use it
        return cls(names, rows.clone(), sentences, encoder_id or encoder.encoder_id)

    @classmethod
    def from_embedding_file(
        cls, path: str | Path, names: Sequence[str], *, encoder_id: str
    ) -> "Vocabulary":
        """Take rows that somebody else encoded, such as RegionCLIP's ``*_cls_emb.pth``.

        Args:
            path: A file with one ``(C, D)`` tensor or array: ``.pth``, ``.npy``.
            names: One per row.
            encoder_id: The encoder that made the file. Nothing in it can prove this; the length
                of the rows is compared with what the encoder's architecture gives.

        Raises:
            CheckpointError: The file is damaged or holds something else.
            ValueError: There are more or fewer names than rows, or rows are of another length.
        """
        names = checked_names(names)
        state = read_checkpoint(path)
        rows = state.get(BARE_TENSOR)
        if rows is None or rows.ndim not in (1, 2) or not rows.is_floating_point():
            found = "tensors with names" if rows is None else f"a {tuple(rows.shape)} tensor"
            raise CheckpointError(
                f"{path} holds {found}; expected class embeddings, one (C, D) tensor"
            )
        rows = rows.float().reshape(-1, rows.shape[-1])
        if len(names) != len(rows):
            raise ValueError(f"{path} has {len(rows)} rows, and {len(names)} names are given")
        width = _width_of(encoder_id)
        if width not in (None, rows.shape[1]):
            raise ValueError(
                f"{path} has rows of {rows.shape[1]} numbers, and encoder {encoder_id} makes "
                f"{width}: they were made with another encoder"
            )
        return cls(names, rows, (), encoder_id)

    @classmethod
    def from_images(
        cls,
        crops: Mapping[str, Sequence[ImageSource]],
        encoder: CropEncoder,
    ) -> "Vocabulary":
        """Name classes by pictures instead of words: each is the mean direction of its crops.

        Args:
            crops: Per name, pictures that show little but the thing.
            encoder: Its image tower makes the vectors.

        Raises:
            ImageReadError: A picture cannot be read.
            ValueError: A name has no picture, or the names are not usable.
        """
        names = checked_names(list(crops))
        rows = []
        for name, pictures in crops.items():
            if not pictures:
                raise ValueError(f"class {name!r} has no picture; give at least one")
            vectors = torch.cat([_encode_picture(picture, encoder) for picture in pictures])
            # normalised first, so that no picture outweighs another
            rows.append(F.normalize(vectors, dim=1).mean(dim=0))
        return cls(names, torch.stack(rows).clone(), (), encoder.encoder_id)

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: The file is missing, damaged, or no vocabulary.
        """
        if not Path(path).is_file():
            raise CheckpointError(f"{path} does not exist or is no file")
        try:
            with safe_open(path, framework="pt") as file:
                entries = file.metadata() or {}
                rows = file.get_tensor("embeddings")
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is no vocabulary, or damaged ({error}); for embeddings of a .pth or .npy "
                "file use Vocabulary.from_embedding_file"
            ) from error
        if entries.get("format") != FORMAT or rows.ndim != 2:
            raise CheckpointError(
                f"{path} is no vocabulary of format {FORMAT!r} (its format: "
                f"{entries.get('format', 'none')!r}); 'regionclip embed-concepts' makes one"
            )
        try:
            return cls.from_entries(entries, rows)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); encode the names again") from error

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with everything; an old one stays until the new is whole."""
        save_tensors(path, {"embeddings": self.embeddings}, self.entries())

    def entries(self) -> dict[str, str]:
        """All but the embeddings, as metadata of a safetensors file."""
        return {
            "format": FORMAT,
            "names": json.dumps(self.names, ensure_ascii=False),
            "templates": json.dumps(self.templates, ensure_ascii=False),
            "encoder_id": self.encoder_id,
        }

    @classmethod
    def from_entries(cls, entries: Mapping[str, str], embeddings: Tensor) -> "Vocabulary":
        """What :meth:`entries` describes.

        Raises:
            KeyError, TypeError, ValueError: The entries are damaged.
        """
        names, templates = json.loads(entries["names"]), json.loads(entries["templates"])
        return cls(tuple(names), embeddings, tuple(templates), entries["encoder_id"])

    def check_encoder(self, encoder_id: str) -> None:
        """Refuse a model whose vectors live in another space.

        Raises:
            ValueError: ``encoder_id`` is not the vocabulary's.
        """
        if encoder_id != self.encoder_id:
            raise ValueError(
                f"this vocabulary ({len(self)} names, the first {self.names[0]!r}) was made with "
                f"encoder {self.encoder_id}, and the model has {encoder_id}; encode the names "
                "again with the model's own vocabulary(names), or lend a fine-tuned original its "
                "text tower (text_weights=, --text-weights)"
            )


class VocabularyCache:
    """Encoded vocabularies on disk: 1203 names in 81 templates are minutes of work on a CPU."""

    def __init__(self, folder: str | Path) -> None:
        """Keep files in ``folder``, which is made when the first is written."""
        self._folder = Path(folder)

    def from_names(
        self,
        names: Sequence[str],
        encoder: TextEncoder,
        *,
        templates: str | Sequence[str] = "imagenet80",
        progress: Callable[[int], None] | None = None,
    ) -> Vocabulary:
        """As :meth:`Vocabulary.from_names`, but read from disk if it was made before.

        A file that cannot be read is encoded anew and replaced, with a warning in the log.
        """
        names, sentences = checked_names(names), prompt_templates(templates)
        encoder_id = encoder.encoder_id
        key = json.dumps([encoder_id, names, sentences]) + encoder.reading
        path = self._folder / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.safetensors"
        if path.exists():
            try:
                return Vocabulary.load(path)
            except CheckpointError as error:
                _log.warning("encoding %d names again: %s", len(names), error)
        vocabulary = Vocabulary.from_names(
            names, encoder, templates=sentences, progress=progress, encoder_id=encoder_id
        )
        vocabulary.save(path)
        return vocabulary


class VocabularyMemory:
    """Vocabularies of one encoder in memory; the longest unused go first when there are too many.

    The latest is kept whatever its size.
    """

    def __init__(self, encoder: TextEncoder, encoder_id: str, *, num_bytes: int = REMEMBERED_BYTES):
        """Encode with ``encoder``, and keep ``num_bytes`` of embeddings."""
        self._encoder = encoder
        self._encoder_id = encoder_id
        self._num_bytes = num_bytes
        self._kept: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], Vocabulary] = OrderedDict()

    def from_names(self, names: Sequence[str], templates: str | Sequence[str]) -> Vocabulary:
        """As :meth:`Vocabulary.from_names`, unless the same was asked for not long ago."""
        key = (checked_names(names), prompt_templates(templates))
        if key not in self._kept:
            self._kept[key] = Vocabulary.from_names(
                key[0], self._encoder, templates=key[1], encoder_id=self._encoder_id
            )
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._size() > self._num_bytes:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _size(self) -> int:
        return sum(each.embeddings.nbytes for each in self._kept.values())


def _width_of(encoder_id: str) -> int | None:
    """Length of an architecture's vectors, if open_clip knows it by the first part of the id."""
    config = open_clip.get_model_config(encoder_id.split(":")[0])
    return None if config is None else config["embed_dim"]


@torch.inference_mode()
def _encode_picture(source: ImageSource, encoder: CropEncoder) -> Tensor:
    """``(1, D)``, by the way that regions cut from images take."""
    pixels = pixels_of(read_image(source))
    height, width = pixels.shape[1:]
    image = PreparedImage(pixels, (height, width), "picture")
    whole = torch.tensor([[0.0, 0.0, width, height]])
    return CropRegions(encoder).view([image]).of(0).features(whole).cpu()
