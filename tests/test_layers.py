"""The layout's rules, read from the imports: see the tree in README.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "regionclip"
STAGES = (
    "training",
    "encoders",
    "proposals",
    "regions",
    "scoring",
    "detections",
    "concepts",
    "pairs",
    "losses",
)
REACH_METHODS = ("detect.py", "train.py", "loading", "recipes", "flows", "cli", "evaluation")
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_names(source: str, package: str) -> set[str]:
    """Absolute names of all that ``source``, a module of ``package``, imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(parents) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def imports_of(path: Path) -> set[str]:
    package = ".".join(("regionclip", *path.relative_to(PACKAGE).parent.parts))
    return imported_names(path.read_text(), package)


def broken_rule(area: str, imports: set[str]) -> str | None:
    """The rule that a module in ``area`` (its path inside the package) breaks, if any."""
    top = area.split("/")[0]
    methods = {name.split(".")[2] for name in imports if name.startswith("regionclip.methods.")}
    if top in STAGES and methods:
        return f"a stage imports the method {sorted(methods)}"
    if top == "methods" and methods - {area.split("/")[1]}:
        return f"a method imports another: {sorted(methods - {area.split('/')[1]})}"
    if methods and top != "methods" and top not in REACH_METHODS:
        return f"only {', '.join(REACH_METHODS)} may import methods"
    return None


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_keeps_the_layers(path: Path) -> None:
    area = path.relative_to(PACKAGE).as_posix()
    assert broken_rule(area, imports_of(path)) is None


@pytest.mark.parametrize(
    ("area", "source"),
    [
        ("scoring/cosine.py", "from regionclip.methods.regionclip import build"),
        ("methods/cora/model.py", "from regionclip.methods.regionclip import build"),
        ("structures.py", "import regionclip.methods.regionclip.config"),
    ],
)
def test_a_planted_import_is_caught(area: str, source: str) -> None:
    package = ".".join(("regionclip", *area.split("/")[:-1]))
    assert broken_rule(area, imported_names(source, package)) is not None


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = (
                node.body[0].lineno if ast.get_docstring(node) is None else node.body[0].end_lineno
            )
            length = (node.end_lineno or 0) - (start or 0) + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"
