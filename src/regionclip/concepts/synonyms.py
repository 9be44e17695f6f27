"""Other names of classes and concepts: ``bike = bicycle``."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from .class_names import plain_name

BUILTIN_SYNONYMS: Mapping[str, str] = {
    "diverse_weather7": "diverse_weather_synonyms.txt",
    "coco_panoptic": "coco_panoptic_synonyms.txt",
}
"""Lists that come with the package, and their files."""


def read_synonyms(source: str | Path) -> dict[str, str]:
    """Read a text file with lines ``class = other name``; blank lines and ``#`` lines are skipped.

    Args:
        source: The file, or a list of :data:`BUILTIN_SYNONYMS`.

    Returns:
        Other name by class, in the file's order.

    Raises:
        ValueError: It cannot be read, or a line is no such pair, or a class occurs twice.
    """
    if isinstance(source, str) and source in BUILTIN_SYNONYMS:
        asset = files("regionclip") / "assets" / BUILTIN_SYNONYMS[source]
        return _parsed(asset.read_text(encoding="utf-8"), str(source))
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{source} cannot be read as a file of synonyms ({error}); give a text with lines such "
            f"as 'bike = bicycle', or one of {', '.join(BUILTIN_SYNONYMS)}"
        ) from error
    return _parsed(text, str(source))


def check_synonyms(synonyms: Mapping[str, str], class_names: Sequence[str], source: str) -> None:
    """Refuse synonyms of classes that nobody has, which are misspelt as a rule.

    Raises:
        ValueError: A class is none of ``class_names``.
    """
    known = {plain_name(name) for name in class_names}
    for name in synonyms:
        if plain_name(name) not in known:
            raise ValueError(
                f"{source} has a synonym for {name!r}, which is no class of the data "
                f"({', '.join(class_names[:5])}{', ...' if len(class_names) > 5 else ''})"
            )


def renamed(class_names: Sequence[str], synonyms: Mapping[str, str]) -> tuple[str, ...]:
    """Names with their synonyms in their places."""
    by_plain_name = {plain_name(name): other for name, other in synonyms.items()}
    return tuple(by_plain_name.get(plain_name(name), name) for name in class_names)


def words_asked_for(class_names: Sequence[str], synonyms: Mapping[str, str]) -> str | None:
    """What a reader of figures has to know of the words that a model was asked for.

    Args:
        class_names: Of a data set.
        synonyms: Other names of some.

    Returns:
        A sentence; ``None`` where nothing is to be said.
    """
    asked = renamed(class_names, synonyms)
    other = [
        f"{own} as {word}" for own, word in zip(class_names, asked, strict=True) if own != word
    ]
    if other:
        return f"{len(other)} classes are asked for by other words: {', '.join(other)}."
    merged = read_synonyms("coco_panoptic").keys() & set(class_names)
    if not merged:
        return None
    return (
        f"{len(merged)} classes are asked for by the data's names, such as {min(merged)!r}; "
        "--synonyms coco_panoptic asks for plain words."
    )


def _parsed(text: str, source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, other = map(str.strip, line.partition("="))
        if not (name and separator and other):
            raise ValueError(f"{source}: line {number} is not 'class = other name': {line!r}")
        if plain_name(name) in map(plain_name, found):
            raise ValueError(f"{source}: line {number} names {name!r} again; give one other name")
        found[name] = other
    return found
