"""A client certificate for the gate: for one's own live grant, and for one's own key."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.api.parts import Parts
from broker.identity.certificates import Bearer

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
PUBLIC = KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
async def grant(call: Any) -> str:
    """Ada's live grant, by its id."""
    wish = {"resource": "prod-db", "seconds": 3600, "reason": "INC-142"}
    asked = (await (await call("ada")).post("/api/v1/requests", json=wish)).json()
    story = (await (await call("grace")).post(f"/api/v1/requests/{asked['id']}/approve", json={})).json()
    return str(story["grant"]["id"])


async def test_a_certificate_is_for_my_grant_and_my_key(
    call: Any, grant: str, parts: Parts, clock: Any
) -> None:
    answer = await (await call("ada")).post(
        "/api/v1/certificates", json={"grant": grant, "public_key": PUBLIC}
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = x509.load_pem_x509_certificate(answer.json()["certificate"].encode())
    assert made.public_key() == KEY
    der, now = made.public_bytes(Encoding.DER), clock.now()
    assert parts.certificates.read(der, now) == Bearer("ada", grant)
    assert parts.certificates.read(der, now + timedelta(minutes=10)) is None
    clock.advance(minutes=55)
    late = await (await call("ada")).post("/api/v1/certificates", json={"grant": grant, "public_key": PUBLIC})
    assert x509.load_pem_x509_certificate(
        late.json()["certificate"].encode()
    ).not_valid_after_utc - clock.now() == timedelta(minutes=5)
    clock.advance(minutes=5)
    over = await (await call("ada")).post("/api/v1/certificates", json={"grant": grant, "public_key": PUBLIC})
    assert over.status_code == 404


async def test_of_a_grant_that_was_asked_for_somebody_else_it_is_theirs(
    call: Any, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parts.service.config
    everyday, *others = config.policy.rules
    rules = (replace(everyday, for_others=frozenset({"dba"})), *others)
    changed = replace(config, policy=replace(config.policy, rules=rules))
    monkeypatch.setattr(parts.service, "_config", lambda: changed)
    wish = {"resource": "prod-db", "seconds": 3600, "reason": "INC-142", "beneficiary": "ada"}
    asked = (await (await call("grace")).post("/api/v1/requests", json=wish)).json()
    story = (await (await call("linus")).post(f"/api/v1/requests/{asked['id']}/approve", json={})).json()
    body = {"grant": story["grant"]["id"], "public_key": PUBLIC}
    assert (await (await call("ada")).post("/api/v1/certificates", json=body)).status_code == 201
    assert (await (await call("grace")).post("/api/v1/certificates", json=body)).status_code == 404


@pytest.mark.parametrize(
    ("person", "change", "status"),
    [
        ("grace", {}, 404),
        ("ada", {"grant": "G-nowhere"}, 404),
        ("ada", {"public_key": "no key"}, 422),
        ("ada", {"public_key": PUBLIC, "minutes": 600}, 422),
    ],
)
async def test_whoever_asks_for_another_gets_none(
    call: Any, grant: str, person: str, change: dict[str, Any], status: int
) -> None:
    body = {"grant": grant, "public_key": PUBLIC, **change}
    answer = await (await call(person)).post("/api/v1/certificates", json=body)
    assert answer.status_code == status
    assert "certificate" not in answer.json()
