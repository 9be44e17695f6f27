"""The page of models says what the registry says, and the figures that are known of recipes."""

import re
from pathlib import Path

import pytest

from regionclip.evaluation.published import PUBLISHED
from regionclip.methods import known_weights
from regionclip.weights import WeightsEntry

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "models.md"
NO_RECIPES = ("clip-the-gap", "oa-dg", "divalign")
"""Methods to compare with on Diverse Weather."""
OTHER_FILES = {
    "checkpoint.pth": "CORA's trainer leaves it",
    "checkpoint_best.pth": "CORA's trainer leaves it",
    "concept_embeds.pth": "an output",
    "region_prompt.pth": "an output",
    "lvis_1203_cls_emb.pth": "RegionCLIP's vectors of class names, which are no weights",
}
"""Files of PyTorch that the registry does not know, and what they are."""


def row(name: str, entry: WeightsEntry) -> str:
    """The line of the page that a known file has."""
    ways = {"comes with the package": entry.bundled, "downloaded": entry.url is not None}
    way = next((way for way, is_so in ways.items() if is_so), "by hand")
    if entry.sha256 is not None:
        known = "known" if len(entry.sha256) == 64 else f"begins with {entry.sha256}"
        way += f", SHA-256 {known}"
    licence = entry.licence.split(" (")[0]
    return f"| `{name}` | {entry.title} | {entry.encoder} | `{entry.file}` | {way} | {licence} |"


def test_the_page_has_a_row_for_each_known_file_and_for_no_other() -> None:
    rows = re.findall(r"^\| `.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    shown = [each for each in rows if each.count("|") == 7]
    assert sorted(shown) == sorted(row(*each) for each in known_weights().items())


def test_every_source_of_a_known_file_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    pages = {each.source for each in known_weights().values() if "://" in each.source}
    assert [page for page in pages if f"<{page}>" not in text] == []


@pytest.mark.parametrize("page", ["docs/coming_from.md", "docs/models.md", "README.md"])
def test_a_page_names_no_file_that_the_registry_does_not_know(page: str) -> None:
    named = set(re.findall(r"[\w.-]+\.pth?\b", (PROJECT / page).read_text(encoding="utf-8")))
    assert named
    assert named - {entry.file for entry in known_weights().values()} <= OTHER_FILES.keys()


def test_the_page_has_the_published_figures_of_recipes() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)
    shown = {name: {float(each) for each in re.findall(r"\d+\.\d", text)} for name, text in rows}
    assert shown == {
        recipe: {figure.percent for figure in figures}
        for recipe, figures in PUBLISHED.items()
        if recipe not in NO_RECIPES
    }
