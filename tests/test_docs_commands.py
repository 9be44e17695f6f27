"""The commands of the documentation run, on models and data sets made small.

Those of docs/data.md have their own test, on a real data set.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import regionclip
from regionclip.cli import main
from tests.documented import MODEL, RPN, TOWER, write_world

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("training", "open_vocabulary", "cross_domain", "evaluation", "pretraining")
NOT_HERE = {
    "torchrun": "several processes: tests/test_train_transfer.py and "
    "tests/cli/test_evaluate_processes.py start them",
    "accelerate": "several processes: tests/test_train_transfer.py starts them so",
    "srun": "needs a cluster",
    "python": "takes an hour: tests/test_examples.py runs the script with fewer steps",
}
"""Why a command is left out, by its first word."""
STAND_INS = {
    "MODEL": MODEL,
    "regionclip-cc-rn50": MODEL,
    "icons": MODEL,
    "openai:RN50": MODEL,
    "openai:ViT-B-16": TOWER,
    "torchvision": RPN,
}
"""What stands where a model or a proposal network is named."""
NAMING = ("--model", "--proposals", "--student", "--teacher")
PRETRAIN = "regionclip-pretrain-small"
SHORT = (
    "templates=photo",
    "shortest_side=64",
    "longest_side=64",
    "learner.regions_per_image=8",
    "augmentation.shortest_sides=[64]",
    "augmentation.longest_side=64",
    "optimization.steps=1",
    "optimization.batch_size=2",
    "optimization.milestones=[]",
    "run.precision=fp32",
    "run.num_workers=0",
)
SHORT_PRETRAINING = tuple(
    each
    for each in SHORT
    if each.split("=")[0] not in ("templates", "shortest_side", "longest_side")
)
OWN_PROPOSALS = {
    "finetune-small": (
        "proposal_training.optimization.steps=1",
        "proposal_training.optimization.batch_size=2",
    )
}
"""Of recipes that train their proposal network; the others are given one."""


def fences(page: str, language: str = "") -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for own, block in found if own == language]


def commands(page: str) -> list[list[str]]:
    """Words of each line of the blocks that have no language; ``\\`` continues a line."""
    text = "\n".join(fences(page)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words]


def made_small(words: list[str]) -> list[str]:
    """The same command with other models, and for training with few steps on small images."""
    command, *rest = words
    if command == "train" and rest[0] == PRETRAIN:
        settings = [*SHORT_PRETRAINING, "learner.min_concept_score=0.0"]
        settings.append(f"start={TOWER if 'start=openai:ViT-B-16' in rest else MODEL}")
        return [*words, *(f"--set={each}" for each in settings)]
    if command == "train":
        settings = [*SHORT, *OWN_PROPOSALS.get(rest[0], [f"proposals={RPN}"])]
        if not any(each.startswith("start=") for each in rest):
            settings.append(f"start={MODEL}")
        return [*words, *(f"--set={each}" for each in settings)]
    named = [rest.index(option) + 1 for option in NAMING if option in rest]
    named += [0] if command == "evaluate" else []
    for place in named:
        rest[place] = STAND_INS.get(rest[place], rest[place])
    return [command, *rest]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented") / "world"
    folder.mkdir()
    write_world(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_one_after_another(
    page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    own = [words[1:] for words in commands(page) if words[0] == "regionclip"]
    assert own
    for words in own:
        # random weights do not reach what is expected
        expected = 1 if "--expect" in words else 0
        assert main(made_small(words)) == expected, shlex.join(words)
    for block in fences(page, "python"):
        exec(block, {"model": regionclip.load(MODEL)})


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (shlex.join(words), words[0])
        for page in PAGES
        for words in commands(page)
        if words[0] != "regionclip"
    ],
)
def test_a_command_that_does_not_run_here(command: str, program: str) -> None:
    pytest.skip(NOT_HERE[program])
