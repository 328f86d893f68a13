"""Words on the terminal: what comes from elsewhere is shown, and does nothing."""

from __future__ import annotations

import pytest

from cli.say import bold, say, say_table

HOSTILE = "[/b] [link=https://evil.example]press[/link] \x1b[2J"


def test_a_value_in_a_table_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(["[red]head"], [[HOSTILE], [None], [7]])
    shown = capsys.readouterr().out
    assert "[red]head" in shown
    assert "[/b] [link=https://evil.example]press[/link] \\x1b[2J" in shown
    assert "\x1b" not in shown


def test_a_table_in_a_pipe_breaks_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(["one", "two"], [["a" * 300, "b" * 300]])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"I am {bold(HOSTILE)}.")
    assert "[/b] [link=" in capsys.readouterr().out
