"""The commands of the documentation run, on models and data sets made small.

``make test-docs`` runs these. Those of Detic have their own test, on Detic's files; servers are in
``test_docs_servers.py``.
"""

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import regionclip
from regionclip.cli import main
from tests.documented import MODEL, RPN, TOWER, write_world
from tests.documented_files import FVIT_TEXTS, write_files
from tests.documented_settings import small_settings

PROJECT = Path(__file__).parents[1]
FROM_NOTHING = ("training", "open_vocabulary", "cross_domain", "evaluation", "pretraining")
"""Pages whose commands make all that later ones need."""
WITH_FILES = (
    *("index", "command_line", "checkpoints", "models", "troubleshooting", "coming_from"),
    *("caption_data", "concepts", "icons", "cora", "clim", "clipself", "fvit"),
    *("dense_encoders", "regions", "regionclip", "README", "data", "proposals"),
)
"""Pages that take released files of several systems for granted."""
OF_THEIR_OWN = {
    "detic": "tests/test_detic_docs.py runs it on Detic's files",
    "demo": "tests/test_docs_servers.py starts it",
    "serving": "tests/test_docs_servers.py starts it and asks",
    "performance": "benchmarks alone, of which tests/benchmarks runs less",
    "notebooks": "opens them; 'make notebooks' runs them",
}
"""Pages that no list above has, and what shows that they are right."""
MENTIONED = ("regionclip train NAME",)
"""What stands for any command of its kind."""
NOT_IN_PYTHON = {
    'open("found/detections.json")': "takes masks of RegionCLIP's on LVIS, which no small file has",
}
"""Why a block of Python is left out, by what stands in it."""
SMALLER = {
    "num_scenes=100": "num_scenes=2",
    "num_images=100": "num_images=2",
    "num_parts=600_000": "num_parts=2",
    "=96": "=2",
    "(800,)": "(64,)",
}
"""What blocks of Python have, and a stand-in that takes less time."""
NOT_HERE = {
    "torchrun": "several processes: tests/test_train_transfer.py and "
    "tests/cli/test_evaluate_processes.py start them",
    "accelerate": "several processes: tests/test_train_transfer.py starts them so",
    "srun": "needs a cluster",
    "python": "takes long: tests/test_examples.py and tests/benchmarks run less of it",
    "pip": "downloads",
    "jupyter": "opens a browser: 'make notebooks' runs the notebooks",
    "make": "continuous integration runs it, or a person: it takes long or needs a browser",
    "curl": "asks a server: tests/test_docs_servers.py starts one",
}
"""Why a command is left out, by its first word."""
SERVERS = ("serve", "demo")
STAND_INS = {
    "MODEL": MODEL,
    "NAME": "icons",
    "FILE": MODEL,
    "regionclip-cc-rn50": MODEL,
    "icons": MODEL,
    "openai:RN50": MODEL,
    "openai:ViT-B-16": TOWER,
    "torchvision": RPN,
    "yolox_nano.onnx": RPN,
    "detector.onnx": RPN,
    "clim-cc3m-rn50x64": "openai_rn50x64_cc3m_clim.pt",
    "runs/fvlm-ov-coco-vitb16/model.safetensors": "runs/fvit-ov-coco-vitb16/model.safetensors",
}
"""What stands where a model or a proposal network is named."""
NAMING = ("--model", "--proposals", "--student", "--teacher")


def fences(page: str, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)
    return [block for own, block in found if own in languages]


def text_of(page: str) -> str:
    folder = PROJECT if page == "README" else PROJECT / "docs"
    return (folder / f"{page}.md").read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Words of each line of a shell's blocks (``\\`` continues one), then those in sentences."""
    lines = "\n".join(fences(page, "", "bash")).replace("\\\n", " ").splitlines()
    found = re.findall(r"`(regionclip [^`]*)`", text_of(page))
    # a bare name is a mention, not a command
    lines += [each.replace("\n", " ") for each in found if is_whole(each)]
    programs = ("regionclip", *NOT_HERE)
    split = [shlex.split(line, comments=True) for line in lines if line.startswith(programs)]
    return [words for words in split if words and shlex.join(words) not in MENTIONED]


def blocks_in_python(page: str) -> list[str]:
    """Those that run here, made small."""
    blocks = [
        block
        for block in fences(page, "python")
        if not any(reason in block for reason in NOT_IN_PYTHON)
    ]
    others = {f'"{name}"': f'"{stand_in}"' for name, stand_in in STAND_INS.items()} | SMALLER
    for old, new in others.items():
        blocks = [block.replace(old, new) for block in blocks]
    return blocks


def is_whole(command: str) -> bool:
    words = command.split()
    return len(words) > 3 or words[1] == "train" or words[1:] == ["models", "list"]


def made_small(words: list[str]) -> list[str]:
    """The same command with other models, and for training with few steps on small images."""
    command, *rest = words
    if command == "train":
        given = [rest[place + 1] for place, word in enumerate(rest) if word == "--set"]
        given = [f"start={TOWER}" if each == "start=openai:ViT-B-16" else each for each in given]
        others = [
            word
            for place, word in enumerate(rest)
            if "--set" not in rest[max(place - 1, 0) : place + 1]
        ]
        own = [f"--set={each}" for each in given]
        return [command, *others, *own, *small_settings(rest[0], tuple(given)), "--no-resume"]
    if command == "evaluate" and not {"--data", "--detections"} & set(rest):
        rest = [rest[0], "--num-scenes", "4"]
    named = [rest.index(option) + 1 for option in NAMING if option in rest]
    named += [0] if command == "evaluate" else []
    named += [1] if command == "models" and len(rest) > 1 else []
    for place in named:
        rest[place] = STAND_INS.get(rest[place], rest[place])
    if command == "propose" and "--proposals" not in rest:
        rest += ["--proposals", RPN]  # else torchvision's
    if "--protocol" in rest and rest[rest.index("--protocol") + 1].endswith("-macc"):
        rest[0] = TOWER if rest[0] == MODEL else rest[0]
    if command == "data" and "--benchmark" in rest:
        rest.append("--overwrite")  # the files are there for other pages
    if "--text-weights" in rest:
        rest[rest.index("--text-weights") + 1] = FVIT_TEXTS
    return [command, *rest]


def clear_output(words: list[str]) -> None:
    """Alternatives of a page name the same folder, which refuses what another model found."""
    if "--output" not in words:
        return
    path = Path(words[words.index("--output") + 1])
    if words[0] in ("detect", "embed-regions", "propose", "evaluate"):
        shutil.rmtree(path, ignore_errors=True)
    if path.suffix == ".json":
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented") / "world"
    folder.mkdir()
    write_world(folder)
    return folder


@pytest.fixture(scope="module")
def full_world(world: Path) -> Path:
    folder = world.with_name("full")
    shutil.copytree(world, folder)
    write_files(folder)
    (folder / "recipes").symlink_to(PROJECT / "recipes")
    return folder


def is_detic(words: list[str]) -> bool:
    return words[0] == "train" and words[1].startswith("detic-")


def run_page(page: str) -> None:
    own = [words[1:] for words in commands(page) if words[0] == "regionclip"]
    own = [words for words in own if words[0] not in SERVERS and not is_detic(words)]
    blocks = blocks_in_python(page)
    assert own or blocks
    for words in own:
        clear_output(words)
        # random weights do not reach what is expected
        expected = 1 if "--expect" in words else 0
        assert main(made_small(list(words))) == expected, shlex.join(words)
    run_in_python(blocks)


def run_in_python(blocks: Sequence[str]) -> None:
    """Under the names that pages take for granted."""
    boxes = torch.tensor([[4.0, 6.0, 28.0, 30.0], [30.0, 20.0, 60.0, 56.0]])
    names = {"model": regionclip.load(MODEL), "regionclip": regionclip, "boxes": boxes}
    for block in blocks:
        exec(block, names)


def test_every_page_with_commands_runs() -> None:
    pages = {"README", *(path.stem for path in (PROJECT / "docs").glob("*.md"))}
    having = {page for page in pages if commands(page) or fences(page, "python")}
    assert sorted(having) == sorted((*FROM_NOTHING, *WITH_FILES, *OF_THEIR_OWN))


def test_what_is_left_out_is_on_some_page() -> None:
    blocks = [
        block for path in (PROJECT / "docs").glob("*.md") for block in fences(path.stem, "python")
    ]
    for piece in (*NOT_IN_PYTHON, *SMALLER):
        assert any(piece in block for block in blocks), piece


@pytest.mark.parametrize("page", [path.stem for path in sorted((PROJECT / "docs").glob("*.md"))])
def test_a_block_is_of_a_known_language(page: str) -> None:
    """Else nothing would run it."""
    languages = re.findall(r"^```(\w+)$", text_of(page), re.MULTILINE)
    assert set(languages) <= {"bash", "python", "toml"}


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize("page", FROM_NOTHING)
def test_the_commands_of_a_page_run_one_after_another(
    page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    run_page(page)


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_FILES)
def test_the_commands_of_a_page_run_on_files_that_it_takes_for_granted(
    page: str, full_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(full_world, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    run_page(page)


@pytest.mark.docs
@pytest.mark.parametrize(
    ("command", "program"),
    [
        (shlex.join(words), words[0])
        for page in (*FROM_NOTHING, *WITH_FILES, *OF_THEIR_OWN)
        for words in commands(page)
        if words[0] != "regionclip"
    ],
)
def test_a_command_that_does_not_run_here(command: str, program: str) -> None:
    pytest.skip(NOT_HERE[program])
