import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from regionclip import cli
from regionclip.cli import COMMANDS, main


def commands() -> list[list[str]]:
    found = []
    for name, target in COMMANDS.items():
        found += [[name]] if isinstance(target, str) else [[name, own] for own in target]
    return found


@dataclass(frozen=True)
class Raising:
    error: BaseException

    def run(self) -> int:
        raise self.error


def raise_in_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def parsed(_: list[str]) -> Any:
        return Raising(error)

    monkeypatch.setattr(cli, "parsed", parsed)
    return main(["detect"])


def test_help_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"• {name}" in shown
    assert "For example" not in shown


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_of_a_command_has_an_example_of_it(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "For example:" in shown
    assert f"regionclip {' '.join(command)} " in shown.split("For example:")[1]


def test_help_fills_its_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["detect", "--help"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "('photos/*.jpg'), COCO jsons, and videos (with the extra [video]). ",  # of a base class
        "Each box once, with its best name. A box may be found with several names; those are",
    ):
        assert text in shown
    assert "For example:\n    regionclip detect photos" in shown


def test_help_does_not_import_torch() -> None:
    program = (
        "import sys\n"
        "from regionclip.cli import main\n"
        "code = main(['--help'])\n"
        "sys.exit(code or 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "argv", [[], ["detectt"], ["data"], ["detect", "--no-such-option"], ["train"]], ids=" ".join
)
def test_usage_errors_exit_with_2_and_no_traceback(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a [b] c"), FileNotFoundError("a [b] c")])
def test_errors_are_one_line_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert raise_in_command(monkeypatch, error) == 2
    assert capsys.readouterr().err == "error: a [b] c\n"


def test_an_interrupt_says_that_the_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raise_in_command(monkeypatch, KeyboardInterrupt()) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_mistakes_of_the_program_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        raise_in_command(monkeypatch, RuntimeError("a mistake of ours"))
