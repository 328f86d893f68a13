"""Promise 2: no secret leaves. Every byte that the house writes or answers is searched for secrets in use.

They are looked for as they are, in base 64, in hexadecimal and as part of a URL. The places where a secret
must be (the sealed database field, the key files) are tested to be closed to others instead.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import generate_latest
from sqlalchemy import select

from broker import logs
from broker.store import credentials
from broker.store.tables import outbox, sessions
from broker.trail import export
from cli.embedded_postgres import free_port
from proxy import recording
from tests.journeys.conftest import APPROVALS, House, open_house
from tests.promises.searching import arguments_of_processes, keys_of, leaks, open_to_others

KEY_FILES = {"seal.key", "audit.key", "admin.secret", "gate.key", "ca.key", "key.pem", "ca-key.pem"}


@dataclass
class Listened:
    """A house, everything that its logs and clients said, and the secrets that were in use."""

    house: House
    folder: Path
    log: io.StringIO
    said: list[tuple[str, bytes]] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict)

    async def psql(self, sql: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """psql, whose password and whose every word is kept."""
        token = more.pop("token", "") or await self.house.entry(more.get("person", "ada"))
        self.secrets.setdefault(f"entry token {len(self.secrets)}", token.encode())
        done = await self.house.psql(sql, token=token, **more)
        self.said.append((f"psql {sql[:30]}", (done.stdout + done.stderr).encode()))
        return done

    async def login_of(self, grant_id: str) -> None:
        """Remember the password of the login that was made for a grant."""
        async with self.house.broker.store.read() as tx:
            login = await credentials.ready(tx, grant_id)
        assert login is not None
        password = self.house.broker.seal.open(login.sealed, grant_id)
        self.secrets[f"login of {grant_id}"] = password.encode()

    async def places(self) -> list[tuple[str, bytes]]:
        """All that was written or answered."""
        house = self.house
        await self.settled()
        found = [*self.said, ("the log", self.log.getvalue().encode()), ("/metrics", generate_latest())]
        house.sandbox.save()
        found += [
            (str(path.relative_to(self.folder)), path.read_bytes())
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in KEY_FILES
        ]
        calls = json.dumps(house.sandbox.web_api.calls, default=str, ensure_ascii=False)
        found.append(("calls to Slack", calls.encode()))
        found.append(("the outbox", "\n".join(await self.outbox()).encode()))
        trail = io.StringIO()
        await export(house.broker.store, trail.write)
        found.append(("the exported trail", trail.getvalue().encode()))
        found.append(("the server's log", house.shop.server.log.read_bytes()))
        for path in (self.folder / "recordings").glob("*.jsonl"):
            found.append(
                (f"replay of {path.name}", "\n".join(recording.render(recording.read(path))).encode())
            )
        found += arguments_of_processes()
        return found

    async def settled(self) -> None:
        """Wait until the recordings of the sessions that ended are written to their end."""
        open_ones = select(sessions.c.id).where(sessions.c.closed_at.is_(None))
        async with asyncio.timeout(15):
            while True:
                async with self.house.broker.store.read() as tx:
                    if not (await tx.execute(open_ones)).all():
                        return
                await asyncio.sleep(0.05)

    async def outbox(self) -> list[str]:
        async with self.house.broker.store.read() as tx:
            return [str(row) for row in await tx.execute(select(outbox))]

    async def check(self) -> None:
        assert leaks(self.secrets, await self.places()) == []


@pytest.fixture
async def listened(
    tmp_path: Path, shop: Any, run_psql: Callable[..., subprocess.CompletedProcess[str]]
) -> AsyncIterator[Listened]:
    """A house whose secrets are known and whose log is kept whole, at its most talkative."""
    stream = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    logs.configure("DEBUG", stream)
    async with open_house(tmp_path, shop, run_psql, mode="http") as house:
        it = Listened(house, tmp_path, stream)
        app = house.sandbox.workspace.app
        it.secrets = {
            "admin password": shop.admin_password.encode(),
            **keys_of(tmp_path / "broker"),
            "bot token": app.bot_token.encode(),
            "signing secret": app.signing_secret.encode(),
            "app token": app.app_token.encode(),
        }
        yield it
    logging.getLogger().handlers[:], logging.getLogger().level = before
    for login in house.logins():
        shop.query(f'DROP OWNED BY "{login}"')
        shop.query(f'DROP ROLE "{login}"')


def test_the_search_finds_a_secret_in_every_shape() -> None:
    secret = b"correct horse battery/staple+42"
    for wrapped in (
        b"password=" + secret,
        base64.b64encode(b"user:" + secret),
        base64.urlsafe_b64encode(b"xy" + secret + b"z"),
        secret.hex().encode(),
        ("https://x/?p=" + quote(secret, safe="")).encode(),
    ):
        assert leaks({"it": secret}, [("here", b"some " + wrapped + b" text")]) == ["it in here"]
    assert leaks({"it": secret}, [("here", b"nothing of the kind")]) == []


async def test_the_search_finds_a_secret_that_is_planted_in_each_kind_of_place(listened: Listened) -> None:
    """Were the search blind to a place, the tests below would hold for nothing."""
    house = listened.house
    await house.granted("/access request prod-db 1h because INC-142 planted-in-a-reason-4711")
    await listened.psql("select 'planted-in-a-statement-4711', 'planted' || '-in-a-result-4711'")
    await listened.psql('select 1/0 as "planted-in-a-statement-4711"')  # PostgreSQL logs what failed
    logging.getLogger("anybody").warning("planted-in-the-log-4711")
    names = ("a-reason", "a-statement", "a-result", "the-log")
    planted = {name: f"planted-in-{name}-4711".encode() for name in names}
    found = leaks(planted, await listened.places())
    for expected in (
        "a-reason in calls to Slack",
        "a-reason in slack.json",
        "a-reason in the exported trail",
        "a-reason in broker/portcullis.db",
        "a-statement in replay of",
        "a-statement in the server's log",
        "a-result in psql",
        "the-log in the log",
    ):
        assert any(expected in leak for leak in found), f"{expected}: {'; '.join(found)}"


async def test_a_whole_story_leaks_none_of_the_secrets_in_use(listened: Listened) -> None:
    house = listened.house
    await listened.psql("select 1")
    await listened.psql("select 1", token="not-a-token-at-all")
    await listened.psql("select 1", token=await house.entry("grace"))
    await house.granted()
    (story,) = await house.broker.service.stories_of("ada")
    assert story.grant is not None
    await listened.login_of(story.grant.id)
    fine = await listened.psql("select id, email from users limit 3")
    assert fine.returncode == 0, fine.stderr
    for sql in (
        "select no_such_column from users",
        "select 1/0",
        "select usename, passwd from pg_shadow",
        "select rolname, rolpassword from pg_authid",
        "select current_setting('is_superuser'), current_user",
        "create role thief login password 'x'",
        "select pg_read_file('pg_hba.conf')",
        "copy (select 1) to program 'env'",
    ):
        await listened.psql(sql)
    ada = house.be("ada")
    await ada.opens_home()
    await ada.commands("/access status")
    await ada.commands("/access release")
    grace = house.be("grace")
    await grace.sees("Given back", channel=APPROVALS, timeout=15)
    await listened.check()


async def test_a_target_that_refuses_the_administrator_tells_nobody_the_password(listened: Listened) -> None:
    house = listened.house
    wrong = "wrong-administrator-password-0815"
    (listened.folder / "admin.secret").write_text(wrong)
    listened.secrets["wrong admin password"] = wrong.encode()
    assert (await house.be("ada").commands("/access request prod-db 1h because INC-7")).acked
    card = await house.be("grace").sees("INC-7", channel=APPROVALS)
    await house.be("grace").clicks(card, "approve")
    async with asyncio.timeout(20):
        while not await problems(house):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await listened.psql("select 1")
    assert house.logins() == set()
    await listened.check()


async def test_a_target_that_is_away_tells_nobody_the_password(listened: Listened) -> None:
    """The connection to it is made anew for each grant, so an address where nobody listens is enough."""
    house = listened.house
    policy = listened.folder / "access.yaml"
    address = f"127.0.0.1:{house.shop.server.port}"
    assert address in policy.read_text()
    policy.write_text(policy.read_text().replace(address, f"127.0.0.1:{free_port()}"))
    assert await house.broker.reload_policy() == []
    assert (await house.be("ada").commands("/access request prod-db 1h because INC-8")).acked
    card = await house.be("grace").sees("INC-8", channel=APPROVALS)
    await house.be("grace").clicks(card, "approve")
    async with asyncio.timeout(20):
        while not await problems(house):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await listened.psql("select 1")
    assert house.logins() == set()
    await listened.check()


async def problems(house: House) -> list[str]:
    async with house.broker.store.read() as tx:
        rows = await tx.execute(
            select(outbox.c.problem).where(outbox.c.kind == "mint", outbox.c.problem != "")
        )
        return list(rows.scalars())


async def test_the_login_made_for_a_grant_is_gone_with_it_and_its_password_forgotten(
    listened: Listened,
) -> None:
    house = listened.house
    await house.granted()
    (login,) = house.logins()
    (story,) = await house.broker.service.stories_of("ada")
    assert story.grant is not None
    await listened.login_of(story.grant.id)
    await house.broker.service.revoke(story.grant.id, "grace", via="api")
    async with asyncio.timeout(15):
        while login in house.logins():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with asyncio.timeout(15):
        while True:
            async with house.broker.store.read() as tx:
                kept = await credentials.find(tx, story.grant.id)
            assert kept is not None
            if kept.dropped_at is not None:
                break
            await asyncio.sleep(0.05)
    assert kept.sealed == ""
    await listened.check()


async def test_keys_and_data_are_closed_to_other_people_of_the_machine(listened: Listened) -> None:
    await listened.house.granted()
    await listened.psql("select 1")
    assert list((listened.folder / "broker").rglob("*.key"))
    assert [it for it in open_to_others(listened.folder / "broker") if "audit.pub" not in it] == []
