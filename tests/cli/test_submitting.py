"""Statements are submitted for databases and hosts; what takes requests is entered with a client."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cli.runs import GateReader
from workflows.http import HttpTerms
from workflows.model import ClusterTerms, Refusal, Resource, Role, Terms
from workflows.policy import Route, Rule


@pytest.mark.parametrize("terms", [Terms(cluster=ClusterTerms(("edit",))), Terms(http=HttpTerms())])
def test_nothing_is_submitted_for_what_takes_requests(terms: Terms) -> None:
    role = Role("edit", (), terms)
    resource = Resource("prod-cluster", "kubernetes", "", (), (role,))
    hour = timedelta(hours=1)
    rule = Rule("r", frozenset({"engineers"}), frozenset({resource.name}), ("edit",), hour, hour, (), hour)
    answer = GateReader().read("SELECT 1", Route(resource, role, rule), "ada")
    assert isinstance(answer, Refusal)
    assert answer.code == "no-runs"
    assert "with a client of your own" in answer.way_out
