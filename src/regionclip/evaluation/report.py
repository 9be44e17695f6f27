"""What an evaluation found out, how it was measured and on what: one type for all protocols."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What was counted of one group of classes.

    Attributes:
        name: ``all``, or a group such as ``base``, ``novel``, ``rare``.
        num_classes: Classes in it.
        num_images: Images that have a box of it.
        num_boxes: Boxes of it that count.
    """

    name: str
    num_classes: int
    num_images: int
    num_boxes: int


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class's row.

    Attributes:
        name: As the data set writes it.
        split: Its group; "" without one.
        num_boxes: Boxes of it that count.
        metrics: Shares in [0, 1] by name; NaN where the data cannot say, as without boxes.
    """

    name: str
    split: str
    num_boxes: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Table:
    """Text in columns, for the console and for Markdown.

    Attributes:
        title: Above it.
        columns: Headings.
        rows: One cell per column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures of one protocol on one data set, or on several (``parts``).

    Attributes:
        protocol: Its name.
        sentence: The rules in a sentence or two.
        source: The data set, as it calls itself.
        num_images: Images evaluated, those without boxes included.
        splits: Counts of all classes, and of each group of them.
        metrics: Shares in [0, 1] by name; NaN where the data cannot say.
        classes: One row per class, in the data set's order.
        tables: What the protocol shows beside the general tables.
        notes: What a reader has to know beside the rules: what was left out, which classes are few.
        parts: One report per data set, for protocols over several.
    """

    protocol: str
    sentence: str
    source: str
    num_images: int
    splits: tuple[SplitCounts, ...]
    metrics: Mapping[str, float]
    classes: tuple[ClassFigures, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    parts: tuple["EvaluationReport", ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; shares in [0, 1], ``None`` for NaN."""
        content: dict[str, Any] = {
            "protocol": self.protocol,
            "sentence": self.sentence,
            "data": self.source,
            "num_images": self.num_images,
            "splits": {
                each.name: {
                    "classes": each.num_classes,
                    "images": each.num_images,
                    "boxes": each.num_boxes,
                }
                for each in self.splits
            },
            "metrics": _plain(self.metrics),
            "classes": [
                {"name": each.name, "split": each.split, "boxes": each.num_boxes}
                | _plain(each.metrics)
                for each in self.classes
            ],
            "notes": list(self.notes),
        }
        if self.parts:
            content["parts"] = [each.to_dict() for each in self.parts]
        return content

    def summary(self) -> tuple[Table, ...]:
        """The tables to show first: what was counted, the figures, the protocol's own tables."""
        counts = Table(
            f"{self.protocol} on {self.source}: {self.num_images} images",
            ("split", "classes", "images with them", "boxes"),
            tuple(
                (each.name, str(each.num_classes), str(each.num_images), str(each.num_boxes))
                for each in self.splits
            ),
        )
        figures = Table(
            "Figures (percent)",
            ("figure", "value"),
            tuple((name, percent(share)) for name, share in self.metrics.items()),
        )
        return (counts, figures, *self.tables)

    def class_table(self) -> Table:
        """One row per class, in the data set's order."""
        names = tuple(dict.fromkeys(name for each in self.classes for name in each.metrics))
        rows = tuple(
            (
                each.name,
                each.split or "-",
                str(each.num_boxes),
                *(percent(each.metrics.get(name, math.nan)) for name in names),
            )
            for each in self.classes
        )
        return Table("By class (percent)", ("class", "split", "boxes", *names), rows)

    def to_markdown(self) -> str:
        """Sentence, tables and notes, ready for a README or an issue."""
        tables = [*self.summary(), *([self.class_table()] if self.classes else [])]
        blocks = [self.sentence, *map(markdown_table, tables)]
        if self.notes:
            blocks.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(blocks) + "\n"


def percent(share: float) -> str:
    """A share in percent with one digit; "-" for NaN."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def mean_of(values: Sequence[float]) -> float:
    """Mean of the values that are defined; NaN if none is."""
    defined = [each for each in values if not math.isnan(each)]
    return sum(defined) / len(defined) if defined else math.nan


def markdown_table(table: Table) -> str:
    """A table of GitHub's Markdown; what comes from users cannot break it."""
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    rows = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
    return f"**{table.title}**\n\n{rows}"


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(share) else float(share) for name, share in metrics.items()}
