"""Promise 1, the broker's half: nothing reaches a target without a live grant for that person, that resource,
that role, now. The requester never counts as an approver. Approvers are looked up again at every press.

A whole keeper, its policy file and a real target; every test is an attempt to get in another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from broker.credentials.postgres import tls_context
from broker.identity.tokens import TokenKind
from broker.keeper import Broker, create_broker
from broker.settings import Settings
from workflows.access import Wish
from workflows.gate import Admission, Knock, Progress, Upstream
from workflows.model import Refusal, Story

POLICY = """\
people:
  ada: {{name: Ada, slack: U0ADA, groups: [engineers]}}
  eve: {{name: Eve, slack: U0EVE, groups: [engineers]}}
  grace: {{name: Grace, slack: U0GRACE, groups: [engineers, dba]}}
  linus: {{name: Linus, slack: U0LINUS, groups: [dba]}}
  robot: {{name: Robot, groups: [engineers, dba], kind: agent}}
  ghost: {{name: Ghost, slack: U0GHOST, groups: [engineers, dba], active: false}}
slack: {{team: T0HOME}}
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
      readwrite: {{memberships: [app_readwrite]}}
rules:
  - {{name: read, who: [engineers], resources: [prod-db], roles: [readonly], longest: 2h,
     approval: [{{group: dba}}]}}
"""
READ = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")


@pytest.fixture
def settings(shop: Any, tmp_path: Path) -> Settings:
    (tmp_path / "keeper.secret").write_text(shop.admin_password)
    server = shop.server
    text = POLICY.format(host=server.host, port=server.port, database=shop.name, ca=server.ca)
    (tmp_path / "access.yaml").write_text(text)
    return Settings(policy=tmp_path / "access.yaml", data_dir=tmp_path / "data", sweep_seconds=0.5)


@pytest.fixture
async def keeper(settings: Settings) -> AsyncIterator[Broker]:
    async with await create_broker(settings) as made:
        yield made


async def asked(keeper: Broker, who: str = "ada", wish: Wish = READ) -> Story:
    story = await keeper.service.submit(who, wish, via="slack")
    assert isinstance(story, Story)
    return story


async def granted(keeper: Broker, who: str = "ada", approver: str = "linus") -> Story:
    story = await keeper.service.approve((await asked(keeper, who)).request.id, approver, via="slack")
    assert isinstance(story, Story)
    assert story.grant is not None
    return story


async def token_of(keeper: Broker, who: str) -> str:
    return (await keeper.tokens.issue(TokenKind.ENTRY, who, via="cli")).token


async def knock(keeper: Broker, who: str = "ada", *, token: str | None = None, role: str = "") -> Any:
    token = await token_of(keeper, who) if token is None else token
    return await keeper.authority.admit(Knock("g1", "postgres", who, token, "prod-db", role, "127.0.0.1"))


async def entered(keeper: Broker, who: str = "ada") -> Admission:
    async with asyncio.timeout(15):
        while not isinstance(answer := await knock(keeper, who), Admission):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return answer


async def connect(keeper: Broker, up: Upstream) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=up.host,
        port=up.port,
        database=up.database,
        user=up.user,
        password=up.password,
        ssl=tls_context(keeper.config().targets["prod-db"]),
    )


def change_policy(settings: Settings, old: str, new: str) -> None:
    text = settings.policy.read_text()
    assert old in text
    settings.policy.write_text(text.replace(old, new))


# ------------------------------------------------------------------ asking


@pytest.mark.parametrize(
    ("who", "wish"),
    [
        ("linus", READ),  # may decide, may not ask
        ("ghost", READ),  # no longer active
        ("nobody", READ),
        ("", READ),
        ("ada", Wish("prod-db", "readwrite", reason="x")),  # there, but by no rule
        ("ada", Wish("prod-db", "superuser", reason="x")),
        ("ada", Wish("PROD-DB", "readonly", reason="x")),
        ("ada", Wish("prod-db", "readonly", timedelta(hours=2, seconds=1), "x")),
        ("ada", Wish("prod-db", "readonly", timedelta(hours=-1), "x")),
        ("ada", Wish("prod-db", "readonly", timedelta(0), " ")),
    ],
)
async def test_what_no_rule_allows_cannot_even_be_asked(keeper: Broker, who: str, wish: Wish) -> None:
    answer = await keeper.service.submit(who, wish, via="api")
    assert isinstance(answer, Refusal)
    assert await keeper.service.stories_of(who) == []


# --------------------------------------------------------------- approving


@pytest.mark.parametrize("who", ["ada", "eve", "robot", "ghost", "nobody", "", "GRACE", "grace ", "dba"])
async def test_who_is_no_approver_approves_nothing(keeper: Broker, who: str) -> None:
    story = await asked(keeper)
    answer = await keeper.service.approve(story.request.id, who, via="slack")
    assert isinstance(answer, Refusal)
    assert await keeper.service.story(story.request.id) == story


async def test_an_approver_who_asks_still_needs_another(keeper: Broker) -> None:
    story = await asked(keeper, "grace")
    for via in ("slack", "api", "cli"):
        refusal = await keeper.service.approve(story.request.id, "grace", via=via)  # type: ignore[arg-type]
        assert isinstance(refusal, Refusal)
        assert refusal.code == "own-request"
    assert isinstance(await keeper.service.approve(story.request.id, "linus", via="slack"), Story)


async def test_the_press_counts_by_the_policy_of_that_moment(keeper: Broker, settings: Settings) -> None:
    story = await asked(keeper)
    assert await keeper.service.waiting_for("grace") == [story]
    change_policy(settings, "slack: U0GRACE, groups: [engineers, dba]", "slack: U0GRACE, groups: [engineers]")
    assert await keeper.reload_policy() == []
    assert isinstance(await keeper.service.approve(story.request.id, "grace", via="slack"), Refusal)
    assert await keeper.service.waiting_for("grace") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slack: U0ADA, groups: [engineers]", "slack: U0ADA, groups: []"),
        ("slack: U0ADA, groups: [engineers]", "slack: U0ADA, groups: [engineers], active: false"),
        ("longest: 2h", "longest: 30m"),
        ("roles: [readonly]", "roles: [readwrite]"),
    ],
)
async def test_what_the_policy_took_back_meanwhile_is_not_granted(
    keeper: Broker, settings: Settings, old: str, new: str
) -> None:
    story = await asked(keeper)
    change_policy(settings, old, new)
    assert await keeper.reload_policy() == []
    assert isinstance(await keeper.service.approve(story.request.id, "linus", via="slack"), Refusal)
    after = await keeper.service.story(story.request.id)
    assert after is not None
    assert after.grant is None


async def test_a_slack_user_of_another_workspace_is_nobody(keeper: Broker) -> None:
    assert await keeper.service.principal_of_slack("T0HOME", "U0GRACE") is not None
    for team, user in (("T0EVIL", "U0GRACE"), ("", "U0GRACE"), ("T0HOME", ""), ("T0HOME", "grace")):
        assert await keeper.service.principal_of_slack(team, user) is None


# ---------------------------------------------------------------- entering


async def test_before_the_approval_and_after_a_denial_nobody_enters(keeper: Broker) -> None:
    story = await asked(keeper)
    assert isinstance(await knock(keeper), Refusal)
    await keeper.service.deny(story.request.id, "linus", via="slack")
    assert isinstance(await knock(keeper), Refusal)
    assert isinstance(await keeper.service.approve(story.request.id, "grace", via="slack"), Refusal)
    assert isinstance(await knock(keeper), Refusal)


async def test_a_grant_lets_in_its_holder_only_and_by_their_own_token_only(keeper: Broker) -> None:
    await granted(keeper)
    await entered(keeper)
    eves = await token_of(keeper, "eve")
    for answer in (
        await knock(keeper, "eve", token=eves),  # herself, without a grant
        await knock(keeper, "ada", token=eves),  # as Ada, with her own token
        await knock(keeper, "ada", token=""),
        await knock(keeper, "ada", token="pce_" + "A" * 43),
        await knock(keeper, "ada", role="readwrite"),  # more than was granted
        await knock(keeper, "linus"),  # who approved it
        await knock(keeper, "ghost"),
    ):
        assert isinstance(answer, Refusal), answer


@pytest.mark.parametrize("end", ["release", "revoke"])
async def test_after_the_end_neither_the_gate_nor_the_target_lets_in(
    keeper: Broker, shop: Any, end: str
) -> None:
    """Not even whoever kept the target's password: the login itself is gone, and its sessions with it."""
    story = await granted(keeper)
    admission = await entered(keeper)
    inside = await connect(keeper, admission.upstream)
    who = "ada" if end == "release" else "grace"
    assert isinstance(await getattr(keeper.service, end)(story.request.id, who, via="slack"), Story)
    assert isinstance(await knock(keeper), Refusal)
    async with asyncio.timeout(15):
        while not inside.is_closed():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        there = f"SELECT 1 FROM pg_roles WHERE rolname = '{admission.upstream.user}'"
        while shop.psql(there):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(keeper, admission.upstream)


async def test_the_target_itself_knows_when_the_login_ends(keeper: Broker, shop: Any) -> None:
    """So that even with every part of ours dead, a password that got out is worth nothing after the grant."""
    story = await granted(keeper)
    login = (await entered(keeper)).upstream.user
    assert story.grant is not None
    until = shop.query("SELECT rolvaliduntil FROM pg_roles WHERE rolname = %s", login)[0][0]
    assert until == story.grant.expiry


async def test_the_login_can_do_what_its_role_can_and_no_more(keeper: Broker, shop: Any) -> None:
    await granted(keeper)
    up = (await entered(keeper)).upstream
    rights = shop.query(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
        " WHERE rolname = %s",
        up.user,
    )
    assert rights == [(False,) * 5]
    inside = await connect(keeper, up)
    for statement in (
        "DELETE FROM users",
        "SET ROLE app_readwrite",
        "SET ROLE portcullis_admin",
        "CREATE ROLE x",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await inside.execute(statement)
    await inside.close()


async def test_a_person_who_left_is_out_at_the_next_renewal_and_at_the_door(
    keeper: Broker, settings: Settings
) -> None:
    await granted(keeper)
    session = (await entered(keeper)).session
    progress = [Progress(session, 1, "ab" * 32)]
    assert session in (await keeper.authority.renew("g1", progress)).remaining
    change_policy(settings, "slack: U0ADA, groups: [engineers]", "slack: U0ADA, groups: [], active: false")
    assert await keeper.reload_policy() == []
    assert (await keeper.authority.renew("g1", progress)).remaining == {}
    assert isinstance(await knock(keeper), Refusal)


async def test_a_broken_policy_file_opens_nothing_and_closes_nothing(
    keeper: Broker, settings: Settings
) -> None:
    story = await asked(keeper)
    settings.policy.write_text("people: {mallory: {name: M, groups: [dba]}}")
    assert await keeper.reload_policy()
    assert isinstance(await keeper.service.approve(story.request.id, "mallory", via="slack"), Refusal)
    assert isinstance(await keeper.service.approve(story.request.id, "linus", via="slack"), Story)
