"""The two ends of a session, without a network: however the bytes are cut, the same comes out."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.postgres import codec
from proxy.postgres.approvals import Approvals
from proxy.postgres.client_end import ClientEnd
from proxy.postgres.picture import Picture, Pictures
from proxy.postgres.pipeline import Execution, Pipeline
from proxy.postgres.reading import Reading
from proxy.postgres.session import Session
from proxy.postgres.target_end import TargetEnd
from proxy.sessions import SystemClock
from proxy.sql.catalog import Catalog
from workflows.model import Mask, Terms

CATALOG = Catalog.build(
    [(100, "public", "users", "r")], [(100, 1, "id", 23, "int4", "N"), (100, 2, "email", 25, "text", "S")]
)
SYNC = codec.message(b"S")
EXECUTE = codec.message(b"E", b"\0" + struct.pack("!I", 0))
READY = codec.message(b"Z", b"I")
EMAILS = codec.row_description(
    [codec.Column(b"id", 100, 1, 23, 4, -1, 0), codec.Column(b"email", 100, 2, 25, -1, -1, 0)]
)


class Wire:
    """A channel that keeps what is written to it."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.lost = False

    def write(self, data: bytes | memoryview) -> None:
        self.sent += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def relay() -> tuple[Session, ClientEnd, TargetEnd, list[Execution]]:
    """A session between two wires, with users.email masked; and what it records."""
    session: Any = Session.__new__(Session)
    recorded: list[Execution] = []
    session.__dict__.update(
        over=False,
        bytes_in=0,
        bytes_out=0,
        statements=0,
        refused=0,
        rows=0,
        origin=0.0,
        pipeline=Pipeline(ord("I")),
        clock=SystemClock(),
        settings=SimpleNamespace(max_message=1 << 20),
        client=Wire(),
        target=SimpleNamespace(greeter=Wire()),
        track=SimpleNamespace(append=recorded.append),
        breach=_fail,
        _fresh=False,
        _catalog_moves=False,
        _wants_refresh=False,
        _looked_inside=False,
    )
    terms = Terms(masks=(Mask("public.users", "email"),))
    session.holds = False
    session.asking, session._cancelled = "", False
    session.approvals = Approvals(session)
    now = session.clock.monotonic() + 1e6  # never due for a look at the catalog
    session.reading = Reading(Pictures(), Picture("stamp", CATALOG), terms, b"key", now)
    return session, ClientEnd(session), TargetEnd(session), recorded


def _fail(why: str) -> None:
    raise AssertionError(why)


def in_pieces(receive: Callable[[bytes], None], data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        receive(data[start:end])


def asked(values: list[int]) -> bytes:
    """A conversation's requests: for each value a simple or an extended query on the masked table."""
    parts = []
    for value in values:
        if value % 2:
            parts.append(codec.query(b"select id, email from users where id = %d" % value))
        else:
            bind = codec.bind(codec.Bind(b"", b"", (), (b"%d" % value,), ()))
            parse = codec.parse(b"", b"select id, email from users where id = $1")
            parts.append(parse + bind + codec.describe_portal(b"") + EXECUTE + SYNC)
    return b"".join(parts)


def answered(values: list[int]) -> tuple[bytes, bytes]:
    """The target's answers, and what the client should get of them."""
    sent, expected = b"", b""
    for value in values:
        before = EMAILS if value % 2 else codec.message(b"1") + codec.message(b"2") + EMAILS
        after = codec.message(b"C", b"SELECT 1\0") + READY
        mail = b"m%d@secret.example" % value
        sent += before + codec.data_row([b"%d" % value, mail]) * (value % 4) + after
        expected += before + codec.data_row([b"%d" % value, b"***"]) * (value % 4) + after
    return sent, expected


conversations = st.lists(st.integers(0, 99), min_size=1, max_size=8)
cuts = st.lists(st.integers(0, 10_000), max_size=20)


@given(conversations, cuts, cuts)
def test_a_conversation_comes_out_the_same_however_its_bytes_are_cut(
    values: list[int], asking: list[int], answering: list[int]
) -> None:
    session, client, target, recorded = relay()
    requests = asked(values)
    replies, expected = answered(values)
    in_pieces(client.data_received, requests, asking)
    assert bytes(session.target.greeter.sent) == requests
    in_pieces(target.data_received, replies, answering)
    assert bytes(session.client.sent) == expected
    assert len(recorded) == len(values)
    assert session.pipeline.steps == deque()


@given(conversations, cuts)
def test_rows_are_masked_without_the_clients_own_describe(values: list[int], answering: list[int]) -> None:
    session, client, target, _ = relay()
    parse = codec.parse(b"", b"select id, email from users")
    for value in values:
        session.client.sent.clear()
        session.target.greeter.sent.clear()
        client.data_received(parse + codec.bind(codec.Bind(b"", b"", (), (), ())) + EXECUTE + SYNC)
        kinds = bytes(kind for kind, _ in codec.split(bytes(session.target.greeter.sent)))
        assert kinds == b"PBDES"  # the gate asked for the description itself
        confirmed = codec.message(b"1") + codec.message(b"2")
        end = codec.message(b"C", b"SELECT 1\0") + READY
        in_pieces(
            target.data_received,
            confirmed + EMAILS + codec.data_row([b"%d" % value, b"x@y"]) + end,
            answering,
        )
        assert bytes(session.client.sent) == confirmed + codec.data_row([b"%d" % value, b"***"]) + end


@given(st.binary(max_size=300), cuts)
def test_garbage_from_the_client_breaches_or_passes_and_never_raises(data: bytes, at: list[int]) -> None:
    session, client, _, _ = relay()
    breaches: list[str] = []

    def breach(why: str) -> None:
        breaches.append(why)
        session.over = True

    session.breach = breach  # type: ignore[method-assign]
    asyncio.run(_feed(client.data_received, data, at))
    assert len(breaches) <= 1


@given(st.binary(max_size=300), conversations)
def test_garbage_from_the_target_breaches_and_shows_nothing_behind_it(data: bytes, values: list[int]) -> None:
    session, client, target, _ = relay()
    breaches: list[str] = []

    def breach(why: str) -> None:
        breaches.append(why)
        session.over = True

    session.breach = breach  # type: ignore[method-assign]
    client.data_received(asked(values))
    target.data_received(data)
    assert len(breaches) <= 1


async def _feed(receive: Callable[[bytes], None], data: bytes, at: list[int]) -> None:
    in_pieces(receive, data, at)
