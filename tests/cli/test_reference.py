"""docs/reference says what the code says."""

from __future__ import annotations

import pytest
import typer

from cli import licences, reference
from cli.main import typer_app
from cli.sections import SECTIONS


@pytest.mark.parametrize(
    "name", ["cli.md", "settings.md", "metrics.md", "licences.md", "api.md", "openapi.json"]
)
def test_the_reference_is_up_to_date(name: str) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "run: python -m cli.reference"


def test_every_setting_that_is_not_plain_is_explained() -> None:
    page = reference.pages()["settings.md"]
    for variable in ("PORTCULLIS_SEAL_KEY", "PORTCULLIS_GATE_JOIN", "PORTCULLIS_OIDC_CLAIM"):
        row = next(line for line in page.splitlines() if f"`{variable}`" in line)
        assert row.count("|") == 4
        assert len(row) > 60


def test_no_package_of_an_installation_is_under_a_licence_that_binds_us() -> None:
    """The LGPL lets one import; the GPL and the AGPL would make ours theirs. Of several one may choose."""
    for name in licences.needed("portcullis"):
        said = licences.licence(name)
        assert said != "not said", name
        choices = said.replace("LGPL", "").replace("Lesser General Public", "").split(" OR ")
        assert any("GPL" not in choice and "General Public" not in choice for choice in choices), name


def test_the_help_names_every_command_once() -> None:
    root = typer.main.get_command(typer_app)
    named = [name for names in SECTIONS.values() for name in names]
    assert sorted(named) == sorted(root.commands)  # type: ignore[attr-defined]
