"""A session through the gate is what the server would say, and every statement of it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.proxy.conftest import House


async def test_psql_runs_through_the_gate(house: House) -> None:
    out, _ = await house.psql("select 1 + 1", "select count(*) from users")
    assert out == "2\n50\n"
    recording = await house.recording()
    assert [s.text for s in recording.statements] == ["select 1 + 1", "select count(*) from users"]
    assert [s.tag for s in recording.statements] == ["SELECT 1", "SELECT 1"]
