"""Promises 1 to 7 over HTTP, each by attack: the real broker, its policy and its database, a real service."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.identity import browser_entries
from broker.identity.kept import Keep
from broker.identity.tokens import TokenKind
from broker.keeper import Broker, create_broker
from broker.settings import Settings
from proxy.gate import Gate, GateSettings
from proxy.http.door import HttpSettings, http_context
from proxy.http.own import challenge_of
from proxy.recording import read
from proxy.tls import self_made, server_context
from tests.proxy.http.conftest import Service
from workflows.access import Wish
from workflows.model import GrantState, Refusal, Story

KEY = "the-services-own-key"
POLICY = """
people:
  ada: {name: Ada, email: ada@example.com, groups: [engineers]}
  bob: {name: Bob, email: bob@example.com, groups: [engineers]}
  grace: {name: Grace, email: grace@example.com, groups: [ops]}
groups: {engineers: {title: Engineers}, ops: {title: Operations}}
resources:
  grafana: &it
    kind: http
    address: 127.0.0.1:%(port)s
    tls: disable
    credential: {header: X-Api-Key, value: "file:key.secret"}
    record: bodies
    masks: [{field: "$..body"}]
    roles:
      viewer:
        pass_types: [application/octet-stream]
        guardrails:
          - {name: no-admin, action: refuse, paths: ["/admin/**"]}
          - {name: ask, action: hold, methods: [POST], approval: [{group: ops}]}
  wiki: *it
rules:
  - {name: look, who: [engineers], resources: [grafana, wiki], roles: [viewer], longest: 2h,
     approval: [{group: ops}]}
"""


@dataclass
class Here:
    broker: Broker
    gate: Gate
    service: Service
    folder: Path
    context: ssl.SSLContext

    async def granted(self, person: str = "ada", resource: str = "grafana") -> Story:
        made = await self.broker.service.submit(person, Wish(resource, "viewer", reason="INC-1"), via="api")
        assert not isinstance(made, Refusal), made
        done = await self.broker.service.approve(made.request.id, "grace", via="api")
        assert not isinstance(done, Refusal), done
        async with asyncio.timeout(20):
            while True:
                story = await self.broker.service.story(made.request.id)
                if story and story.grant and story.grant.state is GrantState.ACTIVE:
                    return story
                await asyncio.sleep(0.02)

    async def token(self, person: str = "ada") -> str:
        return (await self.broker.tokens.issue(TokenKind.ENTRY, person, via="cli")).token

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.gate.http is not None
        return await asyncio.open_connection(
            "127.0.0.1", self.gate.http.port, ssl=self.context, server_hostname="localhost"
        )

    async def ask(
        self, line: str, token: str, *more: str, host: str = "grafana.gate.test", body: bytes = b""
    ) -> bytes:
        reader, writer = await self.open()
        writer.write(request(line, token, *more, host=host, body=body))
        got = b""
        with suppress(ConnectionError):
            got = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return got


def request(line: str, token: str, *more: str, host: str = "grafana.gate.test", body: bytes = b"") -> bytes:
    who = (
        f"Cookie: __Host-portcullis-gate={token}"
        if token.startswith("pcw_")
        else f"Authorization: Bearer {token}"
    )
    fields = [f"{line} HTTP/1.1", f"Host: {host}", who, "Connection: close", *more]
    fields += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with AsyncExitStack() as stack:
        service = Service()
        await service.start()
        stack.push_async_callback(service.stop)
        (tmp_path / "access.yaml").write_text(POLICY % {"port": service.port})
        (tmp_path / "key.secret").write_text(KEY)
        settings = Settings(policy=tmp_path / "access.yaml", data_dir=tmp_path / "broker", lease_seconds=5)
        broker = await create_broker(settings)
        stack.push_async_callback(broker.stop)
        identity = self_made(tmp_path / "tls", ["localhost", "*.gate.test"], datetime.now(UTC))
        gate = Gate(
            broker.authority,
            GateSettings(
                name="gate-1",
                recordings=tmp_path / "recordings",
                tls=server_context(identity.certificate, identity.key),
                renew_every=1.0,
                http=HttpSettings(
                    "127.0.0.1",
                    0,
                    "gate.test",
                    http_context(identity.certificate, identity.key),
                    ("localhost",),
                ),
            ),
        )
        await gate.start()
        stack.push_async_callback(gate.stop)
        yield Here(broker, gate, service, tmp_path, ssl.create_default_context(cafile=str(identity.ca)))


async def test_1_no_way_round_by_another_persons_resources_or_browsers_token(here: Here) -> None:
    nobody = await here.ask("GET /", await here.token())
    assert nobody.startswith(b"HTTP/1.1 403"), "in without a grant"
    story = await here.granted()
    assert story.grant is not None
    assert (await here.ask("GET /", await here.token())).startswith(b"HTTP/1.1 200")
    reached = len(here.service.requests)

    verifier = "v" * 43
    keep = Keep(here.broker.store, here.broker.clock, here.broker.chance)
    half = await browser_entries.make(keep, story.grant, challenge_of(verifier))
    login = (await here.broker.tokens.issue(TokenKind.LOGIN, "ada", via="cli")).token
    attacks = {
        "another person's token": (await here.token("bob"), "grafana"),
        "a token for another service": (await here.token(), "wiki"),
        "a login token": (login, "grafana"),
        "half of a browser's token": (f"pcw_{half}.", "grafana"),
        "the other half of somebody": (f"pcw_{half}.{'w' * 43}", "grafana"),
        "the challenge for the verifier": (f"pcw_{half}.{challenge_of(verifier)}", "grafana"),
        "a browser's token at another host": (f"pcw_{half}.{verifier}", "wiki"),
        "nothing": ("", "grafana"),
    }
    for what, (token, name) in attacks.items():
        got = await here.ask("GET /", token, host=f"{name}.gate.test")
        assert got.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403")), what
    assert len(here.service.requests) == reached
    assert (await here.ask("GET /", f"pcw_{half}.{verifier}")).startswith(b"HTTP/1.1 200")

    assert not isinstance(await here.broker.service.release(story.grant.id, "ada", via="api"), Refusal)
    async with asyncio.timeout(5):
        while len(here.gate.registry):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    for token in (f"pcw_{half}.{verifier}", await here.token()):
        assert (await here.ask("GET /", token)).startswith(b"HTTP/1.1 403"), "in after the end"


async def test_2_no_secret_leaves(here: Here) -> None:
    await here.granted()
    token = await here.token()
    said = [
        await here.ask("GET /status/200", token),
        await here.ask("GET /admin/x", token),
        await here.ask("GET /status/200", "pce_wrong"),
        await here.ask("GET /..", token),
    ]
    (session,) = here.gate.registry.all()
    signed = dict(session.admission.upstream.headers)["Portcullis-Identity"]
    assert repr(session.admission).count(KEY) == 0
    await here.gate.stop()
    files = [
        p for p in here.folder.rglob("*") if p.is_file() and p.suffix in {".jsonl", ".db", ".db-wal", ".log"}
    ]
    assert any(p.suffix == ".jsonl" for p in files)
    kept = b"".join(p.read_bytes() for p in files)
    for name, secret in (("credential", KEY), ("token", token), ("identity", signed)):
        assert secret.encode() not in b"".join(said), f"the {name} was told"
        assert secret.encode() not in kept, f"the {name} was kept"


async def test_3_the_gate_drops(here: Here) -> None:
    story = await here.granted()
    reader, writer = await here.open()
    writer.write(request("GET /flood", await here.token()))
    await asyncio.wait_for(reader.readexactly(1 << 20), 10)
    assert story.grant is not None
    began = time.monotonic()
    await here.broker.service.revoke(story.grant.id, "grace", via="api", reason="enough")
    with suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(1 << 20), 5):
            pass
    assert time.monotonic() - began < 1.5  # the revocation itself included
    before = here.service.written
    await asyncio.sleep(0.2)
    assert here.service.written == before, "it goes on at the service"


async def test_4_what_is_approved_is_what_runs(here: Here) -> None:
    await here.granted()
    token = await here.token()
    asked = ("POST /pay", token, "Prefer: respond-async")
    assert (await here.ask(*asked, body=b'{"sum": 5}')).startswith(b"HTTP/1.1 202")
    (review,) = await here.broker.authority.reviews.waiting_for("grace")
    assert review.statement.text.endswith('{"sum": 5}')
    done = await here.broker.authority.reviews.approve(review.id, "grace", via="api")
    assert not isinstance(done, Refusal)
    # Another sum, another place, another person's: none of it goes by that yes.
    assert (await here.ask(*asked, body=b'{"sum": 6}')).startswith(b"HTTP/1.1 202")
    assert (await here.ask("POST /pay?x", token, "Prefer: respond-async", body=b'{"sum": 5}')).startswith(
        b"HTTP/1.1 202"
    )
    assert here.service.requests == []
    async with asyncio.timeout(10):
        while not (got := await here.ask(*asked, body=b'{"sum": 5}')).startswith(b"HTTP/1.1 200"):
            assert got.startswith(b"HTTP/1.1 202"), got
    assert (await here.ask(*asked, body=b'{"sum": 5}')).startswith(b"HTTP/1.1 202"), "it ran twice"
    assert here.service.requests == [("POST", "/pay")]


async def test_5_masked_means_masked(here: Here) -> None:
    await here.granted()
    token = await here.token()
    for line, more in (
        ("PUT /a", ()),
        ("PUT /a", ("Range: bytes=10-",)),
        ("PUT /a", ("Accept-Encoding: gzip, br, x-secret",)),
        ("PUT /a?format=csv", ("Accept: text/csv",)),
    ):
        got = await here.ask(line, token, *more, body=b"clear-value-of-eve")
        assert got.startswith(b"HTTP/1.1 200")
        assert b"clear-value-of-eve" not in got
        assert b'"body": "***"' in got
    assert b"clear" not in await here.ask("GET /file", token), "a type that cannot be masked was shown"


async def test_6_unread_means_refused(here: Here) -> None:
    await here.granted()
    token = await here.token()
    for line in (
        "GET /a%2fb",
        "GET /x%252e",
        "GET /a;x/b",
        "GET //admin",
        "GET /a/../admin",
        "BREW /pot",
        "GET /\xff",
    ):
        reader, writer = await here.open()
        writer.write(request(line, token).decode().encode("latin-1"))
        got = await asyncio.wait_for(reader.read(), 10)
        assert got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403")), line
        writer.close()
    assert here.service.requests == []


async def test_7_unrecorded_means_refused(here: Here) -> None:
    await here.granted()
    token = await here.token()
    reader, writer = await here.open()
    writer.write(request("GET /flood", token))
    await asyncio.wait_for(reader.readexactly(1000), 10)
    (session,) = here.gate.registry.all()
    os.unlink(here.gate.recorder.path(session.admission.session))
    with suppress(ConnectionError):  # the recorder finds it at its next write, which a request brings
        await here.ask("GET /status/200", token)
        while await asyncio.wait_for(reader.read(1 << 20), 10):
            pass
    async with asyncio.timeout(5):  # the flood may be over before the recorder has written
        while not session.over:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    (here.folder / "recordings").rename(here.folder / "gone")
    reached = len(here.service.requests)
    assert (await here.ask("GET /x", await here.token())).startswith(b"HTTP/1.1 503")
    assert len(here.service.requests) == reached


async def test_what_passed_is_in_the_recording_and_the_trail_reaches_it(here: Here) -> None:
    await here.granted()
    token = await here.token()
    await here.ask("GET /status/204?token=t-1", token)
    await here.ask("GET /admin/x", token)
    (session,) = here.gate.registry.all()
    await here.gate.stop()
    recording = read(here.gate.recorder.path(session.admission.session))
    assert [(it.text, it.outcome, it.tag) for it in recording.statements] == [
        ("GET /status/204?token=***", "ok", "204 No Content"),
        ("GET /admin/x", "refused", "403 Forbidden"),
    ]
    record = await here.broker.service.session(session.admission.session, "ada")
    assert not isinstance(record, Refusal)
    assert record.head == recording.head
    assert record.statements == 2
