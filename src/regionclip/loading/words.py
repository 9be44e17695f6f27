"""The words of a detector that is read: classes that its file carries, text towers it is lent."""

from jaxtyping import Float
from torch import Tensor

from regionclip.detect import Detector
from regionclip.encoders.text import TextEncoder, encode_texts
from regionclip.loading.request import LoadOptions, LoadRequest
from regionclip.vocabulary import Vocabulary, builtin_names


def carried_classes(
    class_names: str,
    own_class_names: tuple[str, ...],
    rows: Float[Tensor, "C D"] | None,
    encoder_id: str,
) -> Vocabulary | None:
    """The classes that a model carries vectors of.

    Args:
        class_names: The built-in list that its configuration says they are.
        own_class_names: Names that it tells itself, where there is no such list.
        rows: Their vectors; ``None`` if there are none.
        encoder_id: Names the space of the model's words.

    Returns:
        ``None`` if it carries no vectors, or nobody knows their names.
    """
    if rows is None or not (class_names or own_class_names):
        return None
    names = builtin_names(class_names) if class_names else own_class_names
    return Vocabulary(names, rows.detach().cpu(), templates=(), encoder_id=encoder_id)


def lender_of(request: LoadRequest, *, has_text_tower: bool) -> Detector | None:
    """The model that lends its text tower to one that is read; ``None`` if nobody was asked to.

    Args:
        request: Names it.
        has_text_tower: Whether the file that is read has a text tower of its own.

    Raises:
        ValueError: The file needs none, the activation of nothing was told, or there is no such
            model.
    """
    if has_text_tower:
        request.refuse_text_weights("runs with its own text tower")
    if request.text_weights is None:
        request.refuse_activation()
        return None
    # not before: what opens any file knows this one
    from regionclip.loading import load

    options = LoadOptions(progress=request.progress, activation=request.activation)
    return load(request.text_weights, device=request.device, options=options)


def lent_words(lender: Detector, *, width: int, reader: str, wanted: str) -> TextEncoder:
    """The text tower of another model, of whose vectors only the width is checked.

    Args:
        lender: The other model.
        width: Numbers of a region's vector.
        reader: How errors call the model that is read.
        wanted: Which CLIP's words it was trained with.

    Raises:
        ValueError: The other model's vectors are of another width.
    """
    own = encode_texts(lender.parts.encoder, ["a"]).shape[1]
    if own != width:
        raise ValueError(
            f"text vectors of {own} numbers do not go with {reader}, whose regions have {width}; "
            f"give text_weights of {wanted}"
        )
    return lender.parts.encoder
