"""docs/reference says what the code says."""

from __future__ import annotations

import pytest

from cli import reference


@pytest.mark.parametrize("name", ["cli.md", "settings.md", "api.md", "openapi.json"])
def test_the_reference_is_up_to_date(name: str) -> None:
    written = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert written == reference.pages()[name], "run: python -m cli.reference"


def test_every_setting_that_is_not_plain_is_explained() -> None:
    page = reference.pages()["settings.md"]
    for variable in ("PORTCULLIS_SEAL_KEY", "PORTCULLIS_GATE_TOKEN", "PORTCULLIS_OIDC_CLAIM"):
        row = next(line for line in page.splitlines() if f"`{variable}`" in line)
        assert row.count("|") == 4
        assert len(row) > 60
