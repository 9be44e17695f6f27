"""How options appear in ``--help``."""

import inspect
import re
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from tyro.conf import arg

from regionclip.cli.console import UsageError


def value(metavar: str) -> Any:
    """An option whose value is called ``metavar``; its default is shown."""
    return arg(metavar=metavar)


def optional(metavar: str) -> Any:
    """An option that may be left out: what happens then is in its text, not a default of None."""
    return arg(metavar=metavar, help_behavior_hint="")


def check_counts(command: object, *names: str) -> None:
    """Refuse options of a command that count something and are not positive.

    Args:
        command: Has them as attributes.
        names: Of the attributes.

    Raises:
        UsageError: One is less than 1.
    """
    for name in names:
        count = getattr(command, name)
        if count < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {count}")


def let_help_flow(command: type) -> str:
    """Have the texts of a command's options fill their lines.

    tyro keeps the line breaks of indented docstrings, whatever the width of the terminal.

    Args:
        command: A dataclass; the texts are noted in the metadata of its fields.

    Returns:
        The command's own text, its examples one below the other.
    """
    from docstring_parser import parse_from_object  # tyro's own parser

    texts: dict[str, str] = {}
    for kind in reversed(command.__mro__[:-1]):
        found = parse_from_object(kind).params
        texts |= {each.arg_name: each.description for each in found if each.description}
    for each in fields(command):
        if each.name in texts:
            joined = " ".join(texts[each.name].split())
            each.metadata = MappingProxyType({**each.metadata, "help": joined})
    return re.sub(r"\n\n(?= )", "\n", inspect.cleandoc(command.__doc__ or ""))
