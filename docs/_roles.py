"""For mkdocstrings: references in docstrings become links, where their target is on a page.

They are written as :meth:`Detector.detect`, which editors know, and Markdown does not.
"""

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")


class Roles(Extension):
    """Rewrites docstrings before they are parsed for their sections."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(lambda role: _link(role, obj), obj.docstring.value)


def _link(role: re.Match[str], obj: Object) -> str:
    """A link if the target is on a page of the site, else its name alone."""
    is_short, target = role.groups()
    text = target.rsplit(".", 1)[-1] if is_short else target
    identifier = target if target.startswith("regionclip.") else _resolved(target, obj)
    return f'<autoref identifier="{identifier}" optional><code>{text}</code></autoref>'


def _resolved(target: str, obj: Object) -> str:
    """The full name of what ``target`` means where ``obj`` is written."""
    first = target.split(".", 1)[0]
    scope: Object | None = obj
    while scope is not None:
        if first in scope.members:
            return f"{scope.path}.{target}"
        scope = scope.parent
    return target
