"""A token for each grant at a real API server's own interface: made, bound, found again, dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.config import ClusterTarget, Mint, SecretRef
from broker.credentials.kubernetes import ClusterLogins
from broker.credentials.postgres import NewLogin, TargetError
from tests.proxy.kubernetes.cluster_kit import TOKEN, Replay
from tests.proxy.kubernetes.conftest import Certificates

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def login(name: str = "pc_ada_g1", grant: str = "G-1", seconds: float = 3600) -> NewLogin:
    return NewLogin(name, "unused", grant, ("shop-edit",), NOW + timedelta(seconds=seconds), 20)


Make = Callable[..., ClusterLogins]


@pytest.fixture
def logins(cluster: Replay, certificates: Certificates, tmp_path: Path) -> Make:
    def make(token: str = TOKEN, mint: bool = True, ca: str = "") -> ClusterLogins:
        (tmp_path / "token").write_text(token)
        target = ClusterTarget(
            "127.0.0.1",
            cluster.port,
            ca or certificates.cluster.ca.read_text(),
            SecretRef("file:token", tmp_path),
            Mint("portcullis", "gate") if mint else None,
        )
        return ClusterLogins("prod-cluster", target, "installation-1", lambda: NOW)

    return make


async def test_a_token_is_made_for_a_grant_and_dropped_with_it(logins: Make, cluster: Replay) -> None:
    it = logins()
    token = await it.make(login())
    assert token is not None
    assert token.count(".") == 2
    assert await it.ours() == {"pc_ada_g1": "G-1"}
    await it.make(login())
    assert await it.ours() == {"pc_ada_g1": "G-1"}
    assert await it.drop("pc_ada_g1") == ""
    assert await it.drop("pc_ada_g1") == ""
    assert await it.ours() == {}
    asked = next(seen for seen in cluster.seen if seen.target.endswith("/serviceaccounts/gate/token"))
    assert b'"expirationSeconds":3601' in asked.body.replace(b" ", b"")
    assert b'"boundObjectRef"' in asked.body


async def test_a_cluster_without_mint_has_nothing_to_make(logins: Make, cluster: Replay) -> None:
    it = logins(mint=False)
    assert await it.make(login()) is None
    assert await it.ours() == {}
    assert await it.drop("pc_ada_g1") == ""
    assert cluster.seen == []


async def test_what_fails_is_told_without_the_secret(logins: Make, cluster: Replay) -> None:
    with pytest.raises(TargetError) as caught:
        await logins(token="wrong-token").make(login())
    assert "answers 401" in str(caught.value)
    assert "wrong-token" not in str(caught.value)


async def test_another_ca_is_not_trusted(logins: Make, cluster: Replay, certificates: Certificates) -> None:
    it = logins(ca=certificates.gate.ca.read_text())
    with pytest.raises(TargetError):
        async with asyncio.timeout(20):
            await it.make(login())
    assert cluster.seen == []
