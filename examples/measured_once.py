"""What studies share: figures measured once and kept in a folder, and tables of them."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from examples.forgetting_on_icons import mean_and_spread

Figures = dict[str, float]
"""Shares, in [0, 1], by their names."""
NOTE = "settings.json"
ALWAYS_FREE = ("seeds", "output")


def known(folder: Path, name: str, measure: Callable[[], Figures]) -> Figures:
    """Figures by a name, measured if the folder does not hold them yet."""
    path = folder / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(measure(), indent=1))
    return json.loads(path.read_text())


def claim(options: argparse.Namespace, *, free: Sequence[str]) -> None:
    """Note in a study's folder what its figures depend on.

    Args:
        options: Of the command line, ``output`` the folder, which is made if it is not there.
        free: Options that change no figure, besides ``seeds`` and ``output``.

    Raises:
        SystemExit: The folder's figures were measured with other options.
    """
    note = options.output / NOTE
    kept = {name: own for name, own in vars(options).items() if name not in (*ALWAYS_FREE, *free)}
    now = json.loads(json.dumps(kept, default=str))
    then = json.loads(note.read_text()) if note.exists() else now
    for name in sorted(now.keys() | then.keys()):
        if then.get(name) != now.get(name):
            raise SystemExit(
                f"{options.output} holds figures of another study: --{name.replace('_', '-')} was "
                f"{then.get(name)}, and is {now.get(name)}; choose another folder (--output), or "
                "remove this one"
            )
    options.output.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(now, indent=1))


def study_parser(description: str, *, output: str) -> argparse.ArgumentParser:
    """What may be told to every study: how many seeds, and the folder of its figures."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser


def table_of(
    what: str, results: Mapping[str, Sequence[Figures]], columns: Mapping[str, str]
) -> list[str]:
    """Mean and standard deviation over seeds, in percent.

    Args:
        what: Heading of the rows' titles.
        results: Figures of each seed by a row's title; titles without any are left out.
        columns: The names of figures by their headings.
    """
    lines = [f"| {what} | seeds | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for title, rows in results.items():
        if rows:
            cells = [mean_and_spread([row[name] for row in rows]) for name in columns.values()]
            lines.append(f"| {title} | {len(rows)} | {' | '.join(cells)} |")
    return lines


def publish(folder: Path, lines: Sequence[str]) -> None:
    """Write tables to ``table.md``, and print them."""
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
