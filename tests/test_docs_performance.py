"""The page of benchmarks names each of them, links what was measured, and gives its ratios."""

import json
import re
from pathlib import Path
from typing import get_args

from benchmarks.__main__ import Name
from benchmarks.measure import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def rows() -> dict[str, tuple[str, str]]:
    """What stands under "measured" and "ratio", by benchmark."""
    found = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", PAGE.read_text(), re.MULTILINE)
    return {name: (measured, ratio) for name, measured, ratio in found}


def test_the_page_has_a_row_for_each_benchmark() -> None:
    assert sorted(rows()) == sorted(get_args(Name))


def test_a_row_links_the_results_that_there_are() -> None:
    linked = {name: re.findall(r"results/([\w-]+\.md)", row[0]) for name, row in rows().items()}
    assert linked == {
        name: sorted(path.name for path in RESULTS.glob(f"{name}-*.md")) for name in get_args(Name)
    }


def test_ratios_are_those_of_the_results() -> None:
    for name, (_, ratio) in rows().items():
        shown = set(re.findall(r"\d+\.\d+", ratio))
        files = [json.loads(path.read_text()) for path in RESULTS.glob(f"{name}-*.json")]
        known = {row.get("ratio") for each in files for row in each["rows"]}
        assert shown <= known, name
        # 1.00 is what the others are ratios of
        assert bool(shown) == bool(known - {None, "1.00"}), name
