"""How options appear in ``--help``."""

from typing import Any

from tyro.conf import arg


def value(metavar: str) -> Any:
    """An option whose value is called ``metavar``; its default is shown."""
    return arg(metavar=metavar)


def optional(metavar: str) -> Any:
    """An option that may be left out: what happens then is in its text, not a default of None."""
    return arg(metavar=metavar, help_behavior_hint="")
