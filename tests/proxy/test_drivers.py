"""The quick suites of `proof/run`: the same ends directly and through the gate. Long ones are not here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proof import programs, psycopg_suite, report
from proof.fetch import Library
from proof.house import House, Way, open_house
from proof.outcomes import Outcomes

Suite = Callable[[Library | None, House, Way, Path], Outcomes]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all: each suite makes its own databases."""
    with open_house(tmp_path_factory.mktemp("drivers") / "house") as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "suite"),
    [("psycopg", psycopg_suite.psycopg3), ("psql", programs.psql), ("dump", programs.dump)],
)
@pytest.mark.timeout(300)
def test_a_client_sees_the_same_through_the_gate(
    house: House, name: str, suite: Suite, tmp_path: Path
) -> None:
    found: dict[str, Outcomes] = {}
    for way in (house.direct, house.gate):
        folder = tmp_path / way.name
        folder.mkdir()
        found[way.name] = suite(None, house, way, folder)
    row = report.row(name, [found["direct"]], [found["gate"]], exact=True)
    assert row.unexplained == []
    assert row.direct["passed"] > 20 or name == "dump"
    assert [test for test, it in found["direct"].items() if it.status == "failed" and name != "psql"] == []
