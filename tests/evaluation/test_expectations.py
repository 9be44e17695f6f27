import math

import pytest

from regionclip.evaluation.expectations import (
    compare,
    comparison_table,
    comparisons_to_dict,
    expectations_of,
    parse_expectations,
)
from regionclip.evaluation.published import PUBLISHED, REGIONCLIP_PAPER
from regionclip.evaluation.report import EvaluationReport


def report(**metrics: float) -> EvaluationReport:
    return EvaluationReport("ov-coco", "Rules.", "val.json", 1, (), metrics)


@pytest.mark.parametrize(
    ("share", "is_met"),
    [(0.314, True), (0.319, True), (0.309, True), (0.3191, False), (0.3, False), (0.5, False)],
)
def test_a_figure_is_met_within_the_tolerance_above_and_below(share: float, is_met: bool) -> None:
    comparisons = compare(report(ap50_novel=share), parse_expectations("ap50_novel=31.4"), 0.5)
    assert comparisons[0].is_met is is_met


def test_got_expected_and_difference_are_shown() -> None:
    comparisons = compare(
        report(ap50_novel=0.299, ap50_base=0.5711, ap50_all=math.nan),
        expectations_of("regionclip-ov-coco-rn50", "ov-coco"),
        0.5,
    )
    source = "microsoft/RegionCLIP@4b8513b docs/MODEL_ZOO.md"
    assert comparison_table(comparisons).rows == (
        ("ap50_novel", "29.90", "31.40", "-1.50", "MISSED", source),
        ("ap50_all", "-", "50.40", "-", "MISSED", source),
        ("ap50_base", "57.11", "57.10", "+0.01", "met", REGIONCLIP_PAPER),
    )
    assert comparisons_to_dict(comparisons)[1] == {
        "metric": "ap50_all",
        "got": None,
        "expected": 50.4,
        "tolerance": 0.5,
        "met": False,
        "source": source,
    }


def test_several_figures_are_read() -> None:
    found = parse_expectations(" ap50_novel = 31.4 , ap=20,")
    assert [(each.metric, each.percent) for each in found] == [("ap50_novel", 31.4), ("ap", 20.0)]


@pytest.mark.parametrize("text", ["ap50_novel", "ap=high", "31.4"])
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no expectation; write figures in percent"):
        parse_expectations(text)


def test_other_mistakes_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="nothing is expected"):
        parse_expectations(" , ")
    with pytest.raises(ValueError, match="ov-coco has no figure 'ap'; it has ap50_novel"):
        compare(report(ap50_novel=0.3), parse_expectations("ap=3"), 0.5)
    with pytest.raises(ValueError, match="at least 0 percentage points, got -1"):
        compare(report(), (), -1.0)
    with pytest.raises(ValueError, match="no published figures are known of 'mine'; expected one"):
        expectations_of("mine", "ov-coco")
    with pytest.raises(ValueError, match="figures of divalign are diverse-weather's, not coco's"):
        expectations_of("divalign", "coco")


def test_every_published_figure_says_where_it_stands() -> None:
    for figures in PUBLISHED.values():
        for each in figures:
            assert any(place in each.source for place in ("README", "MODEL_ZOO", "arXiv"))
            assert 0 < each.percent < 100
