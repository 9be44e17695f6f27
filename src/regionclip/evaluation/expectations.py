"""Figures compared with what they should be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .published import published_figures
from .report import EvaluationReport, Table

DEFAULT_TOLERANCE = 0.5
"""Percentage points."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A figure that a report should have.

    Attributes:
        metric: Its name in the report.
        percent: What it should be.
        source: Who says so.
    """

    metric: str
    percent: float
    source: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """An expectation and what came out.

    Attributes:
        expected: What should be.
        got: Percent; NaN where the report has no value.
        tolerance: Percentage points that it may be off, above or below.
    """

    expected: Expectation
    got: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Got minus expected, in percentage points."""
        return self.got - self.expected.percent

    @property
    def is_met(self) -> bool:
        """Whether the figure is as near as the tolerance says; better by more is not met either.

        A figure far above a published one is another protocol as often as a better model.
        """
        # rounded: 31.9 is within 0.5 of 31.4, though floats differ by a little more
        return round(abs(self.difference), 9) <= self.tolerance


def parse_expectations(text: str) -> tuple[Expectation, ...]:
    """Expectations from ``ap50_novel=31.4, ap50_all=50.4``, in percent.

    Raises:
        ValueError: A part is no such pair.
    """
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        metric, _, value = map(str.strip, part.partition("="))
        try:
            percent = float(value)
        except ValueError as error:
            raise ValueError(
                f"{part!r} is no expectation; write figures in percent as in 'ap50_novel=31.4'"
            ) from error
        found.append(Expectation(metric, percent, "you"))
    if not found:
        raise ValueError("nothing is expected; write figures in percent as in 'ap50_novel=31.4'")
    return tuple(found)


def expectations_of(recipe: str, protocol: str) -> tuple[Expectation, ...]:
    """The published figures of a recipe.

    Raises:
        ValueError: There are none under that protocol.
    """
    return tuple(
        Expectation(each.metric, each.percent, each.source)
        for each in published_figures(recipe, protocol)
    )


def compare(
    report: EvaluationReport, expectations: Sequence[Expectation], tolerance: float
) -> tuple[Comparison, ...]:
    """Compare a report with what it should say.

    Raises:
        ValueError: The report has no figure of that name, or ``tolerance`` is negative.
    """
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be at least 0 percentage points, got {tolerance}")
    for each in expectations:
        if each.metric not in report.metrics:
            raise ValueError(
                f"{report.protocol} has no figure {each.metric!r}; it has "
                f"{', '.join(report.metrics)}"
            )
    return tuple(
        Comparison(each, 100 * report.metrics[each.metric], tolerance) for each in expectations
    )


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Got, expected, difference and verdict of each."""
    rows = tuple(
        (
            each.expected.metric,
            "-" if math.isnan(each.got) else f"{each.got:.2f}",
            f"{each.expected.percent:.2f}",
            "-" if math.isnan(each.got) else f"{each.difference:+.2f}",
            "met" if each.is_met else "MISSED",
            each.expected.source,
        )
        for each in comparisons
    )
    columns = ("figure", "got", "expected", "difference", "verdict", "says")
    tolerance = comparisons[0].tolerance if comparisons else 0.0
    return Table(f"Expected within {tolerance:g} points (percent)", columns, rows)


def comparisons_to_dict(comparisons: Sequence[Comparison]) -> list[Mapping[str, object]]:
    """Plain data for JSON, in percent."""
    return [
        {
            "metric": each.expected.metric,
            "got": None if math.isnan(each.got) else each.got,
            "expected": each.expected.percent,
            "tolerance": each.tolerance,
            "met": each.is_met,
            "source": each.expected.source,
        }
        for each in comparisons
    ]
