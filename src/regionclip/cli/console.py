"""What every command says things with: tables on stdout, progress and errors on stderr."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


class UsageError(ValueError):
    """A command was asked for something it cannot do; the message says what to ask for instead."""


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print text in columns; what comes from users is shown as it is, square brackets included.

    Args:
        title: Above the table.
        columns: Headings.
        rows: One cell per column.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs; nothing where stderr is no terminal.

    Args:
        description: What is being done.
        total: Steps in all; ``None`` if nobody knows.

    Yields:
        ``advance(n=1)``: call it after ``n`` steps.
    """
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )
    task = bar.add_task(description, total=total)

    def advance(n: int = 1) -> None:
        bar.advance(task, n)

    with bar:
        yield advance


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each file that is downloaded while the block runs, and nothing if none is.

    Yields:
        ``show(name, received, total)``, in bytes: what :mod:`regionclip.weights` calls as data
        arrives.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def show(name: str, received: int, total: int | None) -> None:
        if name not in tasks:
            bar.start()
            tasks[name] = bar.add_task(name, total=total)
        bar.update(tasks[name], completed=received, total=total)

    try:
        yield show
    finally:
        bar.stop()
