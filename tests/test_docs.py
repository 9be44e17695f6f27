"""The pages of the documentation: complete, and readable without a network."""

import json
import re
import shlex
from pathlib import Path

import pytest

import regionclip
from regionclip.cli import parsed

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def test_the_api_page_has_every_public_name() -> None:
    described = re.findall(r"^::: regionclip\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(regionclip.__all__)


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert sorted(re.findall(r"[\w-]+\.md", navigation)) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_needs_no_script_from_elsewhere(page: Path) -> None:
    """Formulas in TeX would take MathJax, which is loaded from a host."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    assert "$" not in prose
    assert "<script" not in prose


def test_references_in_docstrings_become_links() -> None:
    griffe = pytest.importorskip("griffe", reason="needs the extra [docs]")
    roles = DOCS / "_roles.py"
    loaded = griffe.load(
        "regionclip",
        search_paths=[DOCS.parent / "src"],
        extensions=griffe.load_extensions(str(roles)),
    )
    detector = loaded["detect.Detector"]
    assert (
        '<autoref identifier="regionclip.load" optional><code>regionclip.load</code></autoref>'
        in detector.docstring.value
    )
    # a method that the docstring names without its class
    assert 'identifier="regionclip.detect.Detector.detect"' in (
        detector["classify_regions"].docstring.value
    )
    # a short form, and a name of the same module
    assert "<code>Vocabulary</code>" in detector["detect"].docstring.value
    assert 'identifier="regionclip.vocabulary.read_names"' in (
        loaded["vocabulary.Vocabulary.from_names"].docstring.value
    )


def test_notebooks_are_on_their_page_and_hold_no_outputs() -> None:
    files = sorted((DOCS.parent / "notebooks").glob("*.ipynb"))
    page = (DOCS / "notebooks.md").read_text()
    assert re.findall(r"\(notebooks/([\w-]+\.ipynb)\)", page) == sorted(
        (each.name for each in files), key=page.index
    )
    for file in files:
        cells = json.loads(file.read_text())["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), file


ASKED = (
    "It does not install.",
    "How do I train on my own data?",
    "AP is below the paper's.",
    "AP is near zero with true boxes.",
    "A plain CLIP names next to nothing right.",
    "Names of another list appear on the pictures,",
    "Where are the captions, and the concept pool?",
    "How long does pretraining take?",
    "Scores are above 1.",
    "Scores look too low, or too sure.",
    "A download fails.",
    "Fine-tuning made the model forget.",
    "Many images, several GPUs.",
    "The boxes are bad in my domain.",
    "Vectors have the wrong length,",
    "Crops, or ROIAlign on a map: which is better?",
    "Can I export it to ONNX?",
    "Is there a notebook, or a Colab?",
    "I want another backbone.",
    "I have pictures of the thing and no name for it.",
    "Which resolution?",
    "What is `AP50_split_target`?",
    "A checkpoint is refused.",
    "Can I use it at work?",
    "Which prompts were used, and do they matter?",
)
"""What users of the originals ask most, in the order of how often."""


def test_what_users_ask_most_is_answered() -> None:
    """With where to read on, or what to do."""
    page = (DOCS / "troubleshooting.md").read_text()
    answers = dict(re.findall(r"^\*\*(.+?)\*\*(.*?)(?=^\*\*|\Z)", page, re.MULTILINE | re.DOTALL))
    assert [question for question in ASKED if question not in answers] == []
    for question in ASKED:
        assert re.search(r"\]\(|`", answers[question]), question


def written_texts() -> list[str]:
    """Pages, and the cells of notebooks that are prose."""
    texts = [page.read_text() for page in (*PAGES, DOCS.parent / "README.md")]
    for notebook in sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text())["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return texts


def written_commands() -> list[str]:
    """Every command of this package on any page, in lines of their own or between backticks."""
    found: set[str] = set()
    for text in written_texts():
        text = text.replace("\\\n", " ")
        found |= set(re.findall(r"`(regionclip [^`\n]*)`", text))
        found |= {line for line in text.splitlines() if line.startswith("regionclip ")}
    # a bare name is a mention, not a command
    return sorted(line for line in found if len(line.split()) > 3 or " train " in line)


@pytest.mark.parametrize("line", written_commands())
def test_a_command_has_the_options_that_pages_give_it(line: str) -> None:
    assert parsed(shlex.split(line, comments=True)[1:]) is not None
