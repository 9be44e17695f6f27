"""A recipe's file, read into the type that its key ``task`` names.

Files that ship with the package are known by their names.
"""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from regionclip.recipes.clim import ClimRecipe, ClipSelfRecipe, PseudoLabelRecipe
from regionclip.recipes.cora import CoraRecipe, RegionPromptRecipe
from regionclip.recipes.detic import CascadeRecipe, DeticRecipe
from regionclip.recipes.fvit import FvitRecipe
from regionclip.recipes.icons import IconsRecipe, IconsVitRecipe
from regionclip.recipes.regionclip import PretrainRecipe, ProposalRecipe, TransferRecipe
from regionclip.settings import settings_from

SUFFIX = ".toml"

Recipe = (
    TransferRecipe
    | ProposalRecipe
    | PretrainRecipe
    | IconsRecipe
    | RegionPromptRecipe
    | CoraRecipe
    | ClimRecipe
    | ClipSelfRecipe
    | PseudoLabelRecipe
    | FvitRecipe
    | DeticRecipe
    | CascadeRecipe
    | IconsVitRecipe
)
TASKS: Mapping[str, type[Recipe]] = {
    kind.task: kind
    for kind in (
        TransferRecipe,
        ProposalRecipe,
        PretrainRecipe,
        IconsRecipe,
        RegionPromptRecipe,
        CoraRecipe,
        ClimRecipe,
        ClipSelfRecipe,
        PseudoLabelRecipe,
        FvitRecipe,
        DeticRecipe,
        CascadeRecipe,
        IconsVitRecipe,
    )
}


def recipe_names() -> tuple[str, ...]:
    """Recipes that ship with the package."""
    return tuple(sorted(path.stem for path in _folder().glob(f"*{SUFFIX}")))


def recipe_file(name: str | Path) -> Path:
    """The file of a recipe that ships with the package, or a file of the user's.

    Raises:
        ValueError: There is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in recipe_names():
        return _folder() / f"{name}{SUFFIX}"
    raise ValueError(
        f"unknown recipe {str(name)!r}; expected a TOML file, or one of {', '.join(recipe_names())}"
    )


def read_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: As :func:`recipe_file` takes it.
        changes: Settings instead of the file's, each ``section.key=value`` with the value as TOML
            writes it; text needs no quotes.

    Raises:
        ValueError: It is not TOML, a key is unknown or missing, or a value does not fit.
    """
    path = recipe_file(name)
    content = _content(path)
    for change in changes:
        _change(content, change)
    task = content.pop("task", None)
    if task not in TASKS:
        raise ValueError(f"{path}: task must be one of {', '.join(TASKS)}, got {task!r}")
    return settings_from(TASKS[task], content, source=str(path))


def recipe_task(name: str | Path) -> str:
    """The kind of a recipe, one of :data:`TASKS` if it is one.

    Args:
        name: As :func:`recipe_file` takes it.

    Raises:
        ValueError: It is not TOML.
    """
    return str(_content(recipe_file(name)).get("task"))


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML recipe: {error}") from error


def _change(content: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    *sections, key = path.strip().split(".")
    if not equals or not key:
        raise ValueError(f"{change!r} is no change of a setting; write section.key=value")
    table = content
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ValueError(f"{change!r}: {section!r} is a setting, not a section")
    try:
        table[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = text.strip()


def _folder() -> Path:
    return Path(str(files("regionclip"))) / "assets" / "recipes"
