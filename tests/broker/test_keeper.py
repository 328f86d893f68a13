"""The whole keeper against a real target: real time, real workers, each in its own process's way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import delete

from broker.audit import of_subject
from broker.bus import DEADLINES
from broker.credentials.postgres import tls_context
from broker.identity.tokens import TokenKind
from broker.keeper import Broker, create_broker
from broker.settings import Settings
from broker.store import stories
from broker.store.engine import Store
from broker.store.tables import credentials
from broker.trail import Verdict, load_public_keys, read_witness, verify_store
from workflows.access import Wish
from workflows.gate import Admission, Closing, GrantEnded, GrantMinted, Knock, Progress
from workflows.model import EndReason, GrantState, Refusal, Story

POLICY = """\
people:
  ada: {{name: Ada, groups: [engineers]}}
  bob: {{name: Bob, groups: [engineers]}}
  grace: {{name: Grace, groups: [dba]}}
groups: {{engineers: {{}}, dba: {{}}}}
resources:
  prod-db:
    kind: postgres
    address: "{host}:{port}"
    database: {database}
    ca: {ca}
    admin: {{user: portcullis_admin, password: "file:keeper.secret"}}
    roles:
      readonly: {{memberships: [app_readonly]}}
      broken: {{memberships: [no_such_role]}}
rules:
  - name: read
    who: [engineers]
    resources: [prod-db]
    roles: [readonly, broken]
    longest: 4h
    approval: [{{group: dba}}]
"""


@pytest.fixture
def settings(shop: Any, tmp_path: Path) -> Settings:
    (tmp_path / "keeper.secret").write_text(shop.admin_password)
    server = shop.server
    text = POLICY.format(host=server.host, port=server.port, database=shop.name, ca=server.ca)
    (tmp_path / "access.yaml").write_text(text)
    return Settings(policy=tmp_path / "access.yaml", data_dir=tmp_path / "data", sweep_seconds=0.5)


@pytest.fixture
async def broker(settings: Settings) -> AsyncIterator[Broker]:
    async with await create_broker(settings) as made:
        yield made


async def until(what: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await what()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def granted(broker: Broker, *, role: str = "readonly", **span: float) -> Story:
    wish = Wish("prod-db", role, timedelta(**span or {"hours": 1}), "INC-142")
    story = await broker.service.submit("ada", wish, via="api")
    assert isinstance(story, Story)
    story = await broker.service.approve(story.request.id, "grace", via="api")
    assert isinstance(story, Story)
    return story


async def knock(broker: Broker, **more: str) -> Admission | Refusal:
    token = more.pop("token", "") or (await broker.tokens.issue(TokenKind.ENTRY, "ada", via="cli")).token
    who = {
        "gate": "g1",
        "protocol": "postgres",
        "principal": "ada",
        "resource": "prod-db",
        "role": "",
        "client": "t",
    }
    return await broker.authority.admit(Knock(token=token, **{**who, **more}))


async def admitted(broker: Broker) -> Admission:
    async def there() -> Admission | None:
        answer = await knock(broker)
        return answer if isinstance(answer, Admission) else None

    found = await until(there)
    assert isinstance(found, Admission)
    return found


async def enter(broker: Broker, admission: Admission) -> asyncpg.Connection:
    up = admission.upstream
    target = broker.config().targets["prod-db"]
    return await asyncpg.connect(
        host=up.host,
        port=up.port,
        database=up.database,
        user=up.user,
        password=up.password,
        ssl=tls_context(target),
    )


async def test_from_the_wish_to_the_dropped_login(broker: Broker, shop: Any) -> None:
    notices = broker.authority.notices("g1")
    story = await granted(broker)
    async with asyncio.timeout(15):
        first = await anext(notices)
    assert isinstance(first, GrantMinted)
    assert 3590 < first.remaining <= 3600
    await broker.authority.hold("g1", first.grant)
    after = await broker.service.story(first.grant)
    assert after is not None
    assert after.grant is not None
    assert after.grant.state is GrantState.ACTIVE

    admission = await admitted(broker)
    ada = await enter(broker, admission)
    assert await ada.fetchval("SELECT count(*) > 0 FROM users")
    renewed = await broker.authority.renew("g1", [Progress(admission.session, 3, "ab" * 32)])
    assert set(renewed.remaining) == {admission.session}

    await broker.service.revoke(first.grant, "grace", via="api", reason="enough")
    async with asyncio.timeout(1):
        ended = await anext(notices)
    assert ended == GrantEnded(first.grant, EndReason.REVOKED, f"{first.grant} revoked by grace: enough")
    assert (await broker.authority.renew("g1", [Progress(admission.session, 4, "ab" * 32)])).remaining == {}
    assert isinstance(await knock(broker), Refusal)
    await broker.authority.close("g1", Closing(admission.session, "cut", "revoked", 4, "cd" * 32, 2, 0, 9))
    login = admission.upstream.user

    async def gone() -> bool:
        return shop.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{login}'") == "0"

    await until(gone)
    await notices.aclose()
    async with broker.store.read() as tx:
        kinds = [entry.kind for entry in await of_subject(tx, story.request.id)]
    for kind in ("credential.made", "grant.held", "session.opened", "session.closed", "grant.ended"):
        assert kinds.count(kind) == 1


async def test_a_grant_ends_by_itself_on_time(broker: Broker, clock_of_grants: Any) -> None:
    story = await granted(broker, minutes=1)
    assert story.grant is not None
    await clock_of_grants(broker, story.grant.id, seconds=1.5)
    notices = broker.authority.notices("g1")

    async def over() -> bool:
        current = await broker.service.story(story.request.id)
        return bool(current and current.grant and current.grant.end_reason is EndReason.EXPIRED)

    start = asyncio.get_running_loop().time()
    await until(over)
    assert asyncio.get_running_loop().time() - start < 3
    await notices.aclose()


@pytest.fixture
def clock_of_grants() -> Callable[..., Awaitable[None]]:
    """Bring a grant's end near, as if it had been given long ago."""

    async def near(broker: Broker, grant_id: str, *, seconds: float) -> None:
        async with broker.store.write() as tx:
            story = await stories.lock(tx, grant_id)
            assert story is not None
            assert story.grant is not None
            end = broker.clock.now() + timedelta(seconds=seconds)
            after = Story(story.request, replace(story.grant, expiry=end), story.version)
            await stories.save(tx, after, story.version)
        await broker.bus.publish(DEADLINES, story.request.id)

    return near


async def test_a_login_that_cannot_be_made_fails_the_grant_and_says_why(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.credentials.worker.MOST_ATTEMPTS", 2)
    story = await granted(broker, role="broken")

    async def failed() -> Story | None:
        current = await broker.service.story(story.request.id)
        return current if current and current.grant and current.grant.end_reason is EndReason.FAILED else None

    after = await until(failed)
    assert after.grant.end_note == "A role that the policy gives out does not exist at prod-db."


async def test_logins_that_a_lost_database_left_behind_are_swept(broker: Broker, shop: Any) -> None:
    await granted(broker)
    login = (await admitted(broker)).upstream.user
    async with broker.store.write() as tx:
        await tx.execute(delete(credentials))
    assert await broker.credentials.sweep_orphans() == 1
    assert shop.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{login}'") == "0"


async def test_a_second_start_finds_the_same_state(settings: Settings) -> None:
    async with await create_broker(settings) as first:
        story = await granted(first)
        await admitted(first)
    async with await create_broker(settings) as second:
        again = await second.service.story(story.request.id)
        assert again is not None
        assert again.grant == story.grant
        assert await admitted(second)
        verdict = await verify_store(
            second.store,
            load_public_keys([settings.data_dir / "audit.pub"]),
            witness=read_witness(settings.data_dir / "audit-checkpoints.jsonl"),
        )
        assert verdict.good, verdict
        assert verdict.checkpoints > 0


async def test_a_changed_policy_file_is_taken_over_and_a_broken_one_is_not(
    broker: Broker, settings: Settings
) -> None:
    text = settings.policy.read_text()
    settings.policy.write_text(text.replace("longest: 4h", "longest: 5h"))

    async def five() -> bool:
        return broker.service.policy.rules[0].longest.total_seconds() == 5 * 3600

    await until(five)
    settings.policy.write_text("people: [")
    assert await broker.reload_policy()
    assert await five()


async def test_keys_and_data_are_for_us_alone(broker: Broker, settings: Settings) -> None:
    assert settings.data_dir.stat().st_mode & 0o077 == 0
    for name in ("seal.key", "audit.key"):
        assert (settings.data_dir / name).stat().st_mode & 0o077 == 0


async def test_a_broker_with_another_seal_key_does_not_start(settings: Settings) -> None:
    async with await create_broker(settings):
        pass
    os.unlink(settings.data_dir / "seal.key")
    with pytest.raises(ValueError, match="was sealed with the key"):
        await create_broker(settings)


async def test_two_brokers_on_postgresql_and_redis_are_one(
    settings: Settings, empty_database: Any, redis_url: str
) -> None:
    """Asked at one, approved at the other, entered at the first, revoked at the second: all at once known."""
    shared = {"database_url": empty_database.url("postgresql"), "redis_url": redis_url}
    both = settings.model_copy(update=shared)
    async with await create_broker(both) as one, await create_broker(both) as two:
        notices = one.authority.notices("g1")
        wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")
        asked = await one.service.submit("ada", wish, via="slack", dedupe="d")
        assert isinstance(asked, Story)
        assert await two.service.submit("ada", wish, via="slack", dedupe="d") == asked
        story = await two.service.approve(asked.request.id, "grace", via="slack")
        assert isinstance(story, Story)
        assert story.grant is not None
        async with asyncio.timeout(15):
            assert (await anext(notices)).grant == story.grant.id
        admission = await admitted(one)
        assert admission.grant == story.grant.id
        await two.service.revoke(story.grant.id, "grace", via="api")
        async with asyncio.timeout(1):
            ended = await anext(notices)
        assert isinstance(ended, GrantEnded)
        assert isinstance(await knock(two), Refusal)
        await notices.aclose()
    verdict = await verified(both)
    assert verdict.good, verdict


async def verified(settings: Settings) -> Verdict:
    store = Store(settings.database)
    try:
        return await verify_store(store, load_public_keys([settings.data_dir / "audit.pub"]))
    finally:
        await store.close()
