import json
import math

from regionclip.evaluation.report import (
    ClassFigures,
    EvaluationReport,
    SplitCounts,
    mean_of,
    percent,
)


def report(**changes: object) -> EvaluationReport:
    fields = {
        "protocol": "coco",
        "sentence": "AP as COCO computes it.",
        "source": "val.json",
        "num_images": 3,
        "splits": (SplitCounts("all", 2, 1, 4),),
        "metrics": {"ap": 0.251, "ap_small": math.nan},
        "classes": (
            ClassFigures("cat|dog", "base", 4, {"ap": 0.5}),
            ClassFigures("cow", "", 0, {"ap": math.nan}),
        ),
        "notes": ("1 image could not be read",),
    }
    return EvaluationReport(**(fields | changes))  # type: ignore[arg-type]


def test_undefined_figures_are_null_in_json_and_a_dash_in_tables() -> None:
    content = json.loads(json.dumps(report().to_dict(), allow_nan=False))
    assert content["metrics"] == {"ap": 0.251, "ap_small": None}
    assert content["classes"][1] == {"name": "cow", "split": "", "boxes": 0, "ap": None}
    assert report().summary()[1].rows == (("ap", "25.1"), ("ap_small", "-"))


def test_counts_name_split_classes_images_and_boxes() -> None:
    counts = report().summary()[0]
    assert counts.title == "coco on val.json: 3 images"
    assert counts.rows == (("all", "2", "1", "4"),)
    assert report().to_dict()["splits"] == {"all": {"classes": 2, "images": 1, "boxes": 4}}


def test_markdown_holds_sentence_tables_and_notes_and_names_do_not_break_it() -> None:
    lines = report().to_markdown().splitlines()
    assert lines[0] == "AP as COCO computes it."
    assert "| cat\\|dog | base | 4 | 50.0 |" in lines
    assert "| cow | - | 0 | - |" in lines
    assert lines[-1] == "- 1 image could not be read"


def test_a_report_over_several_data_sets_holds_theirs() -> None:
    whole = report(parts=(report(source="night.json"),))
    assert whole.to_dict()["parts"][0]["data"] == "night.json"
    assert "parts" not in report().to_dict()


def test_a_report_without_classes_has_no_table_of_them() -> None:
    assert "By class" in report().to_markdown()
    assert "By class" not in report(classes=()).to_markdown()


def test_means_pass_over_what_is_undefined() -> None:
    assert mean_of([0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(mean_of([]))
    assert math.isnan(mean_of([math.nan]))
    assert percent(mean_of([0.9144])) == "91.4"
