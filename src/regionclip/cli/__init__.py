"""The command ``regionclip``: one file per command, options made from its dataclass by tyro.

Nothing here imports torch: a command does when it runs, so that ``--help`` comes at once.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from rich.logging import RichHandler

from regionclip.cli.console import errors
from regionclip.cli.options import let_help_flow

COMMANDS: Mapping[str, str | Mapping[str, str]] = {
    "detect": "detect:Detect",
    "embed-regions": "embed_regions:EmbedRegions",
    "embed-concepts": "embed_concepts:EmbedConcepts",
    "propose": "propose:Propose",
    "models": {
        "list": "models:ModelsList",
        "show": "models:ModelsShow",
        "download": "models:ModelsDownload",
        "convert": "models:ModelsConvert",
    },
    "data": {
        "check": "data_check:DataCheck",
        "convert": "data_convert:DataConvert",
        "split": "data_split:DataSplit",
        "relabel": "data_relabel:DataRelabel",
        "pseudo-label": "data_pseudo_label:DataPseudoLabel",
        "icons": "data:DataIcons",
    },
    "concepts": {
        "build": "concepts:ConceptsBuild",
        "show": "concepts:ConceptsShow",
    },
    "train": "train:Train",
    "evaluate": "evaluate:Evaluate",
    "demo": "demo:Demo",
    "serve": "serve:Serve",
}
"""Command to ``module:class`` in this package."""

GROUPS = {
    "models": "List, describe, download and convert weights.",
    "data": "Check, convert, split, relabel and make data sets.",
    "concepts": "Make and show the concept pools that pretraining matches regions to.",
}
DESCRIPTION = (
    "Detect anything by name, and embed any region. Every command has --help with an example."
)

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: What follows ``regionclip`` on the command line; by default this process's.

    Returns:
        0 if all was done; 1 if something was left out and said so; 2 if the command cannot be
        carried out as asked; 130 if it was interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # where a bar shows how far things are, only what is out of the ordinary is said beside it
    level = logging.WARNING if errors.is_terminal else logging.NOTSET
    handler = RichHandler(level, console=errors, show_time=False, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler])
    try:
        return parsed(arguments).run()
    except SystemExit as stop:  # tyro, after printing help (0) or what is wrong (2)
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from here", markup=False)
        return 130
    except (ValueError, OSError, ImportError) as error:
        _log.debug("the error in full", exc_info=True)
        errors.print(f"error: {error}", markup=False, soft_wrap=True)
        return 2


def parsed(arguments: list[str]) -> Any:
    """The command that words on the command line mean, as an instance of its dataclass.

    Raises:
        SystemExit: They mean none; what is wrong was printed (2), or help was (0).
    """
    from tyro.conf import OmitArgPrefixes
    from tyro.extras import SubcommandApp

    app = SubcommandApp()
    # only the command asked for, if it is clear which: the others need not be imported
    asked = {name: COMMANDS[name] for name in arguments[:1] if name in COMMANDS}
    for name, target in (asked or COMMANDS).items():
        if isinstance(target, str):
            _register(app, name, target, arguments)
            continue
        group = SubcommandApp()
        for own_name, own_target in target.items():
            _register(group, own_name, own_target, arguments)
        app.command(group, name=name, help=GROUPS[name])
    return app.cli(
        prog="regionclip", description=DESCRIPTION, args=arguments, config=(OmitArgPrefixes,)
    )


def _register(app: Any, name: str, target: str, arguments: list[str]) -> None:
    module, kind = target.split(":")
    command = getattr(import_module(f"{__name__}.{module}"), kind)
    # the whole docstring, with its example, for the command asked about; one line in lists
    is_asked = name in arguments
    summary = let_help_flow(command) if is_asked else (command.__doc__ or "").splitlines()[0]
    app.command(command, name=name, help=summary)
