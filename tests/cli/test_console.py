import pytest

from regionclip.cli.console import print_table, progress


def test_tables_show_square_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ("one", "two"), [("[bold]a[/bold]", "b [x]"), ("c\\", "[/]")])
    shown = capsys.readouterr().out
    assert "[bold]a[/bold]" in shown
    assert "b [x]" in shown
    assert "[/]" in shown


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Working", 3) as advance:
        advance()
        advance(2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
