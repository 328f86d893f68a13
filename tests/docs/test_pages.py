"""Every page: its links lead somewhere, and nothing of anybody's own machine is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import VARIABLES, typer_app
from cli.settings import ServeSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```", re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_place_on_somebodys_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(/home/|/Users/|/root/|/tmp/)\w", text)


_COMMAND = re.compile(r"(?:^|`)(?:\$ )?(?:\./)?access ((?:[a-z][\w-]*)(?: [a-z][\w-]*)?)([^`\n]*)", re.M)
_SETTING = re.compile(r"\bPORTCULLIS_[A-Z_]*[A-Z]\b")


def commands_of(page: Path) -> list[tuple[str, str]]:
    """Every `access …` in code: the first two words, and what follows."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"`(?:\./)?access [a-z][^`\n]*`", _CODE.sub("", text))
    typed = re.findall(r"^(?:\$ )?(?:\./)?access [a-z].*$", "\n".join(_CODE.findall(text)), re.M)
    found = (_COMMAND.match(line) for line in (*inline, *typed))
    return [(match[1], match[2].partition(" -- ")[0]) for match in found if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_in_a_page_is_there(page: Path) -> None:
    root: Any = typer.main.get_command(typer_app)
    for words, rest in commands_of(page):
        first, _, second = words.partition(" ")
        command = root.commands.get(first)
        assert command is not None, f"{page.name}: access {words}"
        command = getattr(command, "commands", {}).get(second, command)
        known = {name for it in command.params for name in (*it.opts, *it.secondary_opts)} | {"--help"}
        for option in re.findall(r"(?<= )--[a-z][\w-]*", rest):
            assert option in known, f"{page.name}: access {words}{rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_in_a_page_is_there(page: Path) -> None:
    known = {f"PORTCULLIS_{name.upper()}" for name in ServeSettings.model_fields} | set(VARIABLES)
    for name in _SETTING.findall(page.read_text(encoding="utf-8")):
        assert name in known, f"{page.name}: {name}"


def test_every_setting_of_the_units_environment_is_there() -> None:
    said = (ROOT / "deploy" / "systemd" / "environment").read_text(encoding="utf-8")
    choices = (getattr(it.validation_alias, "choices", ()) for it in ServeSettings.model_fields.values())
    known = {f"PORTCULLIS_{name.upper()}" for name in ServeSettings.model_fields}
    known |= {name for names in choices for name in names} | {"PORTCULLIS_PROD_DB_PASSWORD"}
    named = set(re.findall(r"^#?([A-Z_]+)=", said, re.M))
    assert "PORTCULLIS_DATA_DIR" in named
    assert named <= known, named - known
