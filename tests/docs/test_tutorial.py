"""Everything that the tutorial tells people to type and press is typed and pressed, in its order."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)  # a whole ./run, several times
ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(console|slack)\n(.*?)^```", re.M | re.S)
_PROMPT = re.compile(r"^[\w-]+=> ", re.M)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    yield from _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def steps(block: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block (after "$ "), each with the lines that are shown under it."""
    command, shown = "", []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        else:
            shown.append(line)
    yield command, shown


def must_show(output: str, shown: list[str], command: str) -> None:
    """Each line that is shown, up to a "...", stands in the output, whatever the spaces."""
    words = " ".join(output.split())
    for line in shown:
        start = " ".join(line.split("...")[0].split())
        assert start in words, f"$ {command}\nshows {line!r} in the page, but here:\n{output}"


def do_in_slack(demo: Any, line: str) -> None:
    who, place, text = re.fullmatch(r"(\w+) in (\S+): (.+)", line).groups()  # type: ignore[union-attr]
    if button := re.fullmatch(r"\[(.+)\]", text):
        demo.presses(who, place, button[1])
    else:
        demo.types(who, place, text)


def test_the_tutorial_works_as_written(demo: Any) -> None:
    open_sessions: list[subprocess.Popen[str]] = []
    for kind, block in blocks("docs/tutorial.md"):
        if kind == "slack":
            for line in block.splitlines():
                do_in_slack(demo, line)
            for session in open_sessions:  # what was left open is cut by what was pressed
                said, _ = session.communicate(timeout=20)
                assert "given back" in said or "released" in said, said
            open_sessions.clear()
            continue
        for command, shown in steps(block):
            if command == "./run":
                assert demo.process.poll() is None
            elif any(_PROMPT.match(line) for line in shown):
                typed = "\n".join(_PROMPT.sub("", line) for line in shown) + "\n"
                open_sessions.append(demo.spawn(command, typed))
                _wait_until_it_runs(demo)
            else:
                done = demo.shell(command)
                must_show(done.stdout + done.stderr, shown, command)
                assert done.returncode == 0 or any("ERROR" in line for line in shown), done.stderr
    assert not open_sessions


def _wait_until_it_runs(demo: Any) -> None:
    import time

    deadline = time.monotonic() + 15
    while "open" not in (listed := demo.shell("./access sessions list")).stdout:
        assert time.monotonic() < deadline, listed
        time.sleep(0.2)
    time.sleep(0.5)


def test_the_commands_of_the_readme_are_there() -> None:
    named = {
        command.split()[0]
        for kind, block in blocks("README.md")
        for command, _ in steps(block)
        if kind == "console"
    }
    assert named == {"./run", "./test"}
    for command in named:
        assert (ROOT / command).stat().st_mode & 0o111


def test_the_how_tos_name_commands_that_exist(demo: Any) -> None:
    login = demo.shell("./access login")
    assert login.returncode == 0, login.stderr
    for page in sorted((ROOT / "docs" / "how-to").glob("*.md")):
        for _, block in blocks(str(page.relative_to(ROOT))):
            for command, _ in steps(block):
                if command.startswith("./access"):
                    done = demo.shell(command)
                    assert done.returncode == 0, f"{page.name}: {command}\n{done.stderr}"
