"""An evaluation's report on the console and in files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.cli.console import console, print_table
from regionclip.whole_files import replacing

if TYPE_CHECKING:
    from regionclip.evaluation.expectations import Comparison
    from regionclip.evaluation.report import EvaluationReport, Table

REPORT_JSON = "report.json"
REPORT_MARKDOWN = "report.md"


def show_report(report: "EvaluationReport", *, per_class: bool) -> None:
    """Print the tables, the rules in a sentence, and the notes."""
    tables = [*report.summary(), *([report.class_table()] if per_class else [])]
    for table in tables:
        show_table(table)
    console.print(report.sentence, markup=False)
    for note in report.notes:
        console.print(f"Note: {note}", markup=False)


def show_table(table: "Table") -> None:
    """Print one table."""
    print_table(table.title, table.columns, table.rows)


def write_report(
    folder: Path,
    report: "EvaluationReport",
    subject: Mapping[str, Any],
    comparisons: "Sequence[Comparison]",
) -> None:
    """Write ``report.json`` and ``report.md``, whole files or none, and say so.

    Args:
        folder: Is made.
        report: What was found out.
        subject: What was evaluated, as plain data; the first value is the heading.
        comparisons: With what it should be.
    """
    from regionclip.evaluation.expectations import comparison_table, comparisons_to_dict
    from regionclip.evaluation.report import markdown_table

    content = {**subject, **report.to_dict(), "expected": comparisons_to_dict(comparisons)}
    with replacing(folder / REPORT_JSON) as path:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    text = f"# {next(iter(subject.values()))}\n\n{report.to_markdown()}"
    if comparisons:
        text += "\n" + markdown_table(comparison_table(comparisons)) + "\n"
    with replacing(folder / REPORT_MARKDOWN) as path:
        path.write_text(text)
    console.print(
        f"written: {folder / REPORT_JSON}, {folder / REPORT_MARKDOWN}", markup=False, soft_wrap=True
    )
