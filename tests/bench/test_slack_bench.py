"""A rush in Slack, small: nothing is lost, doubled or untrue, and everybody is answered in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.rush import Shape, measure
from bench.slack_main import table, wrong


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Synchronous, since the server behind it starts with a loop of its own."""
    made: Any = request.getfixturevalue("empty_database").url() if request.param == "postgresql" else ""
    return str(made)


async def test_a_rush_loses_and_doubles_nothing_and_answers_in_time(tmp_path: Path, url: str) -> None:
    shape = Shape(requests=40, seconds=4, requesters=10, approvers=6, channels=2, speed=60)
    rush = await measure(shape, tmp_path, url)
    assert wrong(rush) == []
    assert len(rush.acks) == shape.requests + rush.presses
    assert rush.updates >= shape.requests * 2, "every card came to its end"
    assert "| 40 | 4 s | 6 |" in table([rush])
