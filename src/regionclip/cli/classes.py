"""What a user writes for class names, turned into a vocabulary of the model's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.cli.console import UsageError, progress

if TYPE_CHECKING:
    from regionclip.detect import Detector
    from regionclip.vocabulary import Vocabulary

FILE_SUFFIXES = (".txt", ".csv", ".json", ".safetensors", ".pth", ".pt", ".npy")


def is_file(text: str) -> bool:
    """Whether text is the path of a file; a long list of names is none."""
    try:
        return Path(text).is_file()
    except OSError:  # longer than a path may be
        return False


def parse_names(text: str) -> tuple[str, ...]:
    """Names from ``a, b``, from a file with one per line, or from a built-in list.

    Raises:
        UsageError: It looks like a file and there is none.
        ValueError: The names cannot be used.
    """
    from regionclip.concepts.class_names import BUILTIN_LISTS, builtin_names, checked_names
    from regionclip.vocabulary import read_names

    if is_file(text):
        return read_names(text)
    if text in BUILTIN_LISTS:
        return builtin_names(text)
    if text.endswith(FILE_SUFFIXES) or "/" in text:
        raise UsageError(
            f"{text}: there is no such file of names; give a file with one name per line, names "
            f"such as 'cat, remote control', or a list among {', '.join(BUILTIN_LISTS)}"
        )
    return checked_names([name for name in text.split(",") if name.strip()])


def parse_templates(text: str) -> tuple[str, ...]:
    """A built-in set of prompt templates, one template, or a file with one per line.

    Raises:
        ValueError: It is none of these.
    """
    from regionclip.concepts.templates import prompt_templates

    if "{}" in text:
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


def parse_classes(text: str | None) -> "Vocabulary | tuple[str, ...] | None":
    """A vocabulary file, or names as :func:`parse_names` takes them; ``None`` stays.

    Raises:
        ValueError: The file or the names cannot be used.
    """
    from regionclip.vocabulary import Vocabulary

    if text is None:
        return None
    path = vectors_file(text)
    return parse_names(text) if path is None else Vocabulary.load(path)


def open_vocabulary(
    detector: "Detector",
    classes: "Vocabulary | tuple[str, ...] | None",
    templates: Sequence[str] | None,
) -> "Vocabulary":
    """The vocabulary to detect with; names are encoded once and kept on disk.

    Args:
        detector: Its text tower encodes.
        classes: From :func:`parse_classes`; ``None`` takes the classes that the model carries.
        templates: Prompts that names are put into; ``None`` takes those of the model.

    Raises:
        UsageError: The model carries no classes of its own.
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
    if templates is None:
        templates = prompt_templates(detector.parts.templates)
    with progress("Encoding names", len(classes) * len(templates)) as advance:
        return VocabularyCache(default_cache_folder() / "vocabularies").from_names(
            classes, detector.parts.encoder, templates=templates, progress=advance
        )
