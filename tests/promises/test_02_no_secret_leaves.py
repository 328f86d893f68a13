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
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client import generate_latest
from sqlalchemy import select

from broker import logs
from broker.store import credentials
from broker.store.tables import outbox
from broker.trail import export
from proxy import recording
from tests.journeys.conftest import APPROVALS, House, open_house

KEY_FILES = {"seal.key", "audit.key", "admin.secret", "gate.key", "ca.key", "key.pem", "ca-key.pem"}


def shapes(secret: bytes) -> set[bytes]:
    """A secret as it would look on its way out. Base 64 is tried at the three offsets it can have."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), quote(secret, safe="").encode()}
    for pad in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # The first and last characters depend on the neighbours.
            found.add(encode(b"\0" * pad + secret)[4 if pad else 0 : -4])
    return {shape for shape in found if len(shape) >= 8}


def leaks(secrets: dict[str, bytes], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Which secret is found in which place."""
    wanted = [(name, shape) for name, secret in secrets.items() for shape in shapes(secret)]
    return sorted({f"{name} in {place}" for place, text in places for name, shape in wanted if shape in text})


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
        found = [*self.said, ("the log", self.log.getvalue().encode()), ("/metrics", generate_latest())]
        house.sandbox.save()
        found += [
            (str(path.relative_to(self.folder)), path.read_bytes())
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in KEY_FILES
        ]
        calls = [call for method in METHODS for call in house.sandbox.calls(method)]
        found.append(("calls to Slack", json.dumps(calls, default=str).encode()))
        trail = io.StringIO()
        await export(house.broker.store, trail.write)
        found.append(("the exported trail", trail.getvalue().encode()))
        found.append(("the server's log", house.shop.server.log.read_bytes()))
        for path in (self.folder / "recordings").glob("*"):
            found.append(
                (f"replay of {path.name}", "\n".join(recording.render(recording.read(path))).encode())
            )
        found += [
            (f"arguments of process {path.parent.name}", path.read_bytes())
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.exists()
        ]
        return found

    async def check(self) -> None:
        assert leaks(self.secrets, await self.places()) == []


METHODS = (
    "chat.postMessage",
    "chat.update",
    "chat.postEphemeral",
    "views.open",
    "views.update",
    "views.publish",
)


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
        app, broker = house.sandbox.workspace.app, tmp_path / "broker"
        it.secrets = {
            "admin password": shop.admin_password.encode(),
            "seal key": (broker / "seal.key").read_bytes().strip(),
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
    for path in (listened.folder / "broker").rglob("*"):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        public = path.name in {"audit.pub"}
        assert public or not mode & 0o077 or path.is_dir(), f"{path.name} is {mode:o}"
    keys = list(listened.folder.rglob("*.key"))
    assert keys
    assert all(stat.S_IMODE(os.stat(path).st_mode) == 0o600 for path in keys)
