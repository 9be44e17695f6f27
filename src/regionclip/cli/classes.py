"""What a user writes for class names, turned into a vocabulary of the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.cli.console import UsageError, progress

if TYPE_CHECKING:
    from regionclip.detect import Detector
    from regionclip.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """Class embeddings of a model that is not read yet, with a name per row."""

    path: Path
    names: tuple[str, ...]


def is_file(text: str) -> bool:
    """Whether text is the path of a file; a long list of names is none."""
    try:
        return Path(text).is_file()
    except OSError:  # longer than a path may be
        return False


def parse_names(text: str) -> tuple[str, ...]:
    """Names from a file with one per line, or as :func:`~.typed_names.split_names` takes them.

    Raises:
        UsageError: It looks like a file and there is none.
        ValueError: The names cannot be used.
    """
    from regionclip.concepts.class_names import BUILTIN_LISTS, checked_names
    from regionclip.concepts.typed_names import FILE_SUFFIXES, split_names
    from regionclip.vocabulary import read_names

    if is_file(text):
        return read_names(text)
    is_missing = text.endswith(FILE_SUFFIXES)
    names = () if is_missing else split_names(text)
    # a single name with a slash is more likely a path
    if is_missing or ("/" in text and names == (" ".join(text.split()),)):
        raise UsageError(
            f"{text}: there is no such file of names; give a file with one name per line, names "
            f"such as 'cat, remote control', or a list among {', '.join(BUILTIN_LISTS)}"
        )
    return checked_names(names)


def parse_templates(text: str) -> tuple[str, ...]:
    """A built-in set of prompt templates, one template, or a file with one per line.

    Raises:
        ValueError: It is none of these.
    """
    from regionclip.concepts.templates import is_sentence, prompt_templates

    if is_sentence(text):
        return prompt_templates([text])
    if is_file(text):
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
        return prompt_templates([line.strip() for line in lines if line.strip()])
    return prompt_templates(text)


def vectors_file(text: str | None) -> Path | None:
    """The file that ``--classes`` names, if it holds vectors rather than names.

    Raises:
        CheckpointError: The file is empty, or stands for one that was not downloaded.
    """
    from regionclip.checkpoints import checkpoint_format

    if text is None or not is_file(text) or checkpoint_format(text) is None:
        return None
    return Path(text)


def parse_classes(
    text: str | None, *, class_names: str | None = None, templates: str | None = None
) -> "Vocabulary | EmbeddingFile | tuple[str, ...] | None":
    """What ``--classes`` means; a file is told by its content, not by its suffix.

    Args:
        text: A vocabulary file, a file of class embeddings, or names as :func:`parse_names` takes
            them; ``None`` stays.
        class_names: Names of the rows of a file of class embeddings, as :func:`parse_names` takes
            them.
        templates: What ``--templates`` says; vectors that are made already go into no prompts.

    Raises:
        UsageError: Options do not go together, or class embeddings have no names.
        ValueError: The file or the names cannot be used.
    """
    from regionclip.checkpoints import checkpoint_format
    from regionclip.vocabulary import Vocabulary

    path = vectors_file(text)
    if path is not None and templates is not None:
        raise UsageError(f"--templates: {path} holds vectors, which are made already; leave it out")
    if path is not None and checkpoint_format(path) != "safetensors":
        return _embedding_file(path, class_names)
    if class_names is not None:
        raise UsageError(
            "--class-names names the rows of a file of class embeddings such as "
            "coco_65_cls_emb.pth, and --classes gives none"
        )
    if path is not None:
        return Vocabulary.load(path)
    return None if text is None else parse_names(text)


def _embedding_file(path: Path, class_names: str | None) -> "EmbeddingFile":
    """Class embeddings with their names, one per row."""
    from regionclip.checkpoints import BARE_TENSOR, read_checkpoint
    from regionclip.concepts.class_names import BUILTIN_LISTS, builtin_names

    rows = read_checkpoint(path).get(BARE_TENSOR)
    if rows is None or rows.ndim not in (1, 2):
        found = "tensors with names" if rows is None else f"a {tuple(rows.shape)} tensor"
        raise UsageError(
            f"--classes {path}: holds {found}; expected class embeddings (one tensor with a row "
            "per class), a vocabulary that embed-concepts made, or names"
        )
    num_rows = len(rows) if rows.ndim == 2 else 1  # the export of one concept has a single axis
    if class_names is None:
        fitting = [each for each in BUILTIN_LISTS if len(builtin_names(each)) == num_rows]
        raise UsageError(
            f"--classes {path}: holds {num_rows} class embeddings without names; give the names, "
            "in the order of the rows, as --class-names: a file, names with commas, or a built-in "
            f"list ({_listed(fitting, num_rows)})"
        )
    names = parse_names(class_names)
    if len(names) != num_rows:
        raise UsageError(
            f"--class-names gives {len(names)} names, and {path} has {num_rows} rows; give one "
            "name per row, in their order"
        )
    return EmbeddingFile(path, names)


def _listed(fitting: Sequence[str], num_rows: int) -> str:
    if not fitting:
        return f"none has {num_rows} names"
    return f"{' and '.join(fitting)} {'has' if len(fitting) == 1 else 'have'} {num_rows} names"


def open_vocabulary(
    detector: "Detector",
    classes: "Vocabulary | EmbeddingFile | tuple[str, ...] | None",
    templates: Sequence[str] | None,
) -> "Vocabulary":
    """The vocabulary to detect with; names are encoded once and kept on disk.

    Args:
        detector: Its text tower encodes.
        classes: From :func:`parse_classes`; ``None`` takes the classes that the model carries.
        templates: Prompts that names are put into; ``None`` takes those of the model.

    Raises:
        UsageError: The model carries no classes of its own, or class embeddings have another
            length than its vectors.
        ValueError: The vocabulary was made with another encoder.
    """
    from regionclip.concepts.templates import prompt_templates
    from regionclip.vocabulary import Vocabulary, VocabularyCache
    from regionclip.weights import default_cache_folder

    if classes is None:
        if detector.parts.class_vocabulary is None:
            raise UsageError(
                "this model carries no classes of its own; name some, as in "
                "--classes 'cat, remote control'"
            )
        return detector.parts.class_vocabulary
    if isinstance(classes, Vocabulary):
        classes.check_encoder(detector.encoder_id)
        return classes
    if isinstance(classes, EmbeddingFile):
        vocabulary = Vocabulary.from_embedding_file(
            classes.path, classes.names, encoder_id=detector.encoder_id
        )
        _check_width(vocabulary, detector, classes.path)
        return vocabulary
    if templates is None:
        templates = prompt_templates(detector.parts.templates)
    with progress("Encoding names", len(classes) * len(templates)) as advance:
        return VocabularyCache(default_cache_folder() / "vocabularies").from_names(
            classes, detector.parts.encoder, templates=templates, progress=advance
        )


def _check_width(vocabulary: "Vocabulary", detector: "Detector", path: Path) -> None:
    """Refuse rows that do not compare with the model's vectors, where their length is known."""
    own = detector.parts.class_vocabulary
    try:
        known = detector.encode_text(["a"]) if own is None else own.embeddings
    except ValueError:  # no text tower, which means an original, whose length the library knows
        return
    found, expected = vocabulary.embeddings.shape[1], known.shape[1]
    if found != expected:
        raise UsageError(
            f"--classes {path}: has rows of {found} numbers, and the model's vectors have "
            f"{expected}: they were made with another encoder"
        )
