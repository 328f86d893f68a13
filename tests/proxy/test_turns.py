"""Whole requests and answers read at once: the same as message by message, compiled and in Python alike."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import recording
from proxy.postgres import codec, turns
from proxy.postgres.client_end import ClientEnd
from proxy.postgres.picture import Picture, Pictures
from proxy.postgres.pipeline import BindStep, Pipeline, QueryStep, Turn
from proxy.postgres.reading import Reading
from proxy.postgres.target_end import TargetEnd
from proxy.sql import lexer
from tests.proxy.test_relay_properties import CATALOG, EMAILS, relay
from workflows.model import Action, Guardrail, Mask, StatementClass, Terms

STATEMENT = msgspec.json.Decoder(recording.Statement)
IDS = codec.row_description([codec.Column(b"id", 100, 1, 23, 4, -1, 0)])
SYNC = codec.message(b"S")
NO_WRITES = Guardrail("writes", Action.REFUSE, frozenset({StatementClass.WRITE}))
COUNTED = Guardrail("counted", Action.ALLOW, frozenset({StatementClass.READ}), row_limit=5)


def bind(
    portal: bytes, statement: bytes, values: Sequence[bytes | None], formats: Sequence[int] = ()
) -> bytes:
    return codec.bind(codec.Bind(portal, statement, tuple(formats), tuple(values), ()))


def execute(portal: bytes) -> bytes:
    return codec.message(b"E", portal + b"\0" + struct.pack("!I", 0))


def batch(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None],
    text: bytes | None = None,
    describe: bool = True,
) -> bytes:
    ahead = b"" if text is None else codec.parse(statement, text)
    ahead += bind(portal, statement, values)
    return ahead + (codec.describe_portal(portal) if describe else b"") + execute(portal) + SYNC


names = st.sampled_from([b"", b"", b"p", b"x" * 63, b"x" * 64])
values = st.lists(st.none() | st.binary(max_size=6) | st.just(b"y" * 4097), max_size=3)
sent = st.builds(batch, names, names, values, st.none() | st.binary(max_size=9), st.booleans()) | st.builds(
    codec.query, st.binary(max_size=9)
)
rows = st.lists(values.map(codec.data_row), max_size=3).map(b"".join)
tags = st.sampled_from(
    [b"SELECT 1", b"INSERT 0 12", b"BEGIN", b"X ", b"", b"SELECT 1234567890123456789", b"A\0"]
)
answers = st.builds(
    lambda ahead, told, rows, tag, status: (
        ahead + told + (rows if told[:1] == b"T" else b"") + codec.message(b"C", tag + b"\0")
        + codec.message(b"Z", status)
    ),
    st.sampled_from([b"", codec.message(b"2"), codec.message(b"1") + codec.message(b"2")]),
    st.sampled_from([b"", IDS, EMAILS, codec.message(b"n")]),
    rows,
    tags,
    st.sampled_from([b"I", b"T", b"E"]),
)  # fmt: skip


@st.composite
def bent(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of that kind as they are, cut, run on, or with some of them changed."""
    data = bytearray(draw(whole))
    for place in draw(st.lists(st.integers(0, max(0, len(data) - 1)), max_size=2)) if data else ():
        data[place] = draw(st.sampled_from([0, 1, 4, 5, 80, 127, 255, *b"BDEPSQCZTn12"]))
    more = draw(st.sampled_from([b"", b"", b"\0", SYNC, codec.message(b"N", b"\0")]))
    return bytes(data[: draw(st.sampled_from([len(data), len(data), len(data) // 2]))]) + more


def test_the_functions_that_run_are_the_compiled_ones() -> None:
    assert turns.COMPILED


@given(bent(sent))
def test_requests_are_read_alike_by_both(chunk: bytes) -> None:
    assert turns.read_query(chunk) == turns.read_query_in_python(chunk)
    assert turns.read_batch(chunk) == turns.read_batch_in_python(chunk)


@given(bent(answers), st.sampled_from([b"", b"2", b"12"]))
def test_answers_are_read_alike_by_both(chunk: bytes, ahead: bytes) -> None:
    assert turns.read_answer(chunk, ahead) == turns.read_answer_in_python(chunk, ahead)


@given(st.text(alphabet="a1_.-/$'x+\t2 \x7fé", max_size=14).map(str.encode) | st.binary(max_size=9))
def test_keys_are_made_alike_by_both_and_are_the_lexers(text: bytes) -> None:
    key = turns.key(text)
    assert key == turns.key_in_python(text)
    lexed = lexer.scan(text)
    assert key is None or (key == lexed.key and not lexed.exact)
    assert turns.key(text * 500) == turns.key_in_python(text * 500)


binds = st.builds(
    lambda values, formats: bind(b"p", b"s", values, formats)[5:],
    values,
    st.lists(st.integers(0, 1), max_size=3),
)
seconds = st.floats(-1, 2e9, allow_nan=False) | st.floats(0, 10) | st.integers(0, 99).map(lambda n: n / 1e6)


said = st.tuples(
    st.integers(1, 1 << 40),
    seconds,
    seconds,
    st.text(max_size=20).map(str.encode) | st.binary(max_size=20),
    tags,
    st.integers(0, 1 << 40),
    st.just(b"") | bent(binds),
    st.booleans(),
    st.sampled_from(["", "read", "write"]),
)


@given(said)
def test_lines_say_the_same_by_both(it: Any) -> None:
    compiled, plain = turns.line(*it), turns.line_in_python(*it)
    assert (compiled is None) == (plain is None)
    if compiled is not None and plain is not None:
        assert compiled.endswith(b"\n")
        assert compiled.count(b"\n") == 1
        assert STATEMENT.decode(compiled) == STATEMENT.decode(plain)


@given(st.binary(max_size=20), bent(binds) | st.just(b""), tags, st.integers(0, 9), st.floats(0, 1e6))
def test_a_line_says_what_the_entry_says(
    text: bytes, bound: bytes, tag: bytes, rows: int, took: float
) -> None:
    step = QueryStep(text, codec_verdict(), 5.25, 5.0)
    step.tag, step.rows, step.took, step.bound = tag, rows, took, bound
    line = step.line(7)
    if line is not None:
        assert STATEMENT.decode(line) == step.entry(7)


def codec_verdict() -> Any:
    return relay()[0].reading.verdict(b"select id from users")  # type: ignore[union-attr]


# --- a session that takes turns, and one that reads everything message by message


class OneByOne(Pipeline):
    takes_turn = False  # type: ignore[assignment]


Op = tuple[str, bytes, bool]
"""How it is asked, the text, and whether the answer comes before the next is asked."""

TEXTS = [
    b"select id from users where id = 1",
    b"select id from users where id = 1",
    b"select id from users where id = 23",
    b"select id, email from users",
    b"begin",
    b"commit",
    b"delete from users where id = 5",
    b"select 1 / 0 as nothing",
    b"selec id from users where secret",
]
ops = st.lists(
    st.tuples(
        st.sampled_from(
            ["query", "query", "bound", "bound", "parsed", "portal", "again", "terse", "terse parsed"]
        ),
        st.sampled_from(TEXTS),
        st.booleans(),
    ),
    max_size=12,
)


class Postgres:
    """Answers as PostgreSQL does, as far as these conversations go."""

    def __init__(self) -> None:
        self.status = b"I"
        self.skipping = False
        self.texts: dict[bytes, bytes] = {}
        self.portals: dict[bytes, bytes] = {}

    def answer(self, asked: bytes) -> list[bytes]:
        """What goes out at once for these messages: an answer ends at ReadyForQuery."""
        answers = [b""]
        for kind, body in codec.split(asked):
            answers[-1] += self._message(chr(kind), body)
            if answers[-1][-6:-1] == b"Z\0\0\0\5":
                answers.append(b"")
        return [answer for answer in answers if answer]

    def _message(self, kind: str, body: bytes) -> bytes:
        if kind == "Q":
            described, done = self._run(body[:-1])
            return described + done + self._ready()
        if kind == "S":
            self.skipping = False
            return self._ready()
        return b"" if self.skipping else self._extended(kind, body)

    def _extended(self, kind: str, body: bytes) -> bytes:
        name, rest = body.split(b"\0", 1)
        if kind == "P":
            text = rest.split(b"\0")[0]
            if text.startswith((b"selec ", b"portcullis")) or self.status == b"E":
                return self._fail()
            self.texts[name] = text
            return codec.message(b"1")
        if kind == "B":
            statement = rest.split(b"\0")[0]
            if statement not in self.texts:
                return self._fail()
            self.portals[name] = self.texts[statement]
            return codec.message(b"2")
        if kind == "D" and name[1:] in self.portals:
            return _described(self.portals[name[1:]]) or codec.message(b"n")
        if kind == "E" and name in self.portals:
            return self._run(self.portals[name])[1]
        return b"" if kind == "H" else self._fail()

    def _run(self, text: bytes) -> tuple[bytes, bytes]:
        if text == b"commit":
            tag, self.status = b"ROLLBACK" if self.status == b"E" else b"COMMIT", b"I"
        elif (
            self.status == b"E"
            or b"nothing" in text
            or not text.startswith((b"select ", b"begin", b"delete"))
        ):
            return b"", self._fail()
        elif text == b"begin":
            tag, self.status = b"BEGIN", b"T"
        else:
            tag = b"DELETE 1" if text.startswith(b"delete") else b"SELECT 1"
        row = [b"1", b"ada@example.com"] if b"email" in text else [b"1"]
        rows = codec.data_row(row) if _described(text) else b""
        return _described(text), rows + codec.message(b"C", tag + b"\0")

    def _fail(self) -> bytes:
        self.skipping = True
        self.status = b"I" if self.status == b"I" else b"E"
        return codec.report(b"E", {b"S": b"ERROR", b"V": b"ERROR", b"C": b"42703", b"M": b"no such thing"})

    def _ready(self) -> bytes:
        self.skipping = False
        if self.status == b"I":
            self.portals.clear()
        return codec.message(b"Z", self.status)


def _described(text: bytes) -> bytes:
    return b"" if not text.startswith(b"select ") else EMAILS if b"email" in text else IDS


class World:
    """A client and a target with a session between them, and what came of it all."""

    def __init__(self, pipeline: type[Pipeline], rails: tuple[Guardrail, ...] = ()) -> None:
        session, _, _, self.recorded = relay()
        session.clock = Still()  # type: ignore[assignment]
        session.pipeline = pipeline(ord("I"))
        session.approvals._pipeline = session.pipeline
        terms = Terms(masks=(Mask("public.users", "email"),), guardrails=rails)
        session.reading = Reading(Pictures(), Picture("stamp", CATALOG), terms, b"key", 0.0)
        session.holds = bool(rails)
        self.session, self.client, self.target = session, ClientEnd(session), TargetEnd(session)
        session._client_end, session._target_end = self.client, self.target
        self.postgres = Postgres()
        self.heard = 0
        self.turns = 0

    @property
    def shown(self) -> bytes:
        """What the client has had so far."""
        return bytes(self.session.client.sent)  # type: ignore[attr-defined]

    def ask(self, how: str, text: bytes) -> None:
        self.client.data_received(request(how, text))
        self.turns += self.session.pipeline.turn is not None

    def hear(self, *, joined: bool = False) -> bool:
        """Have the target answer what it was sent; returns whether that was anything."""
        sent = bytes(self.session.target.greeter.sent)  # type: ignore[attr-defined]
        asked, self.heard = sent[self.heard :], len(sent)
        answers = self.postgres.answer(asked)
        for chunk in [b"".join(answers)] if joined and answers else answers:
            self.target.data_received(chunk)
        return bool(asked)

    async def story(self, many: list[Op], joined: bool) -> None:
        for how, text, answered in many:
            self.ask(how, text)
            if answered:
                await self.quiet(joined)
        await self.quiet(joined)

    async def quiet(self, joined: bool) -> None:
        """Until nothing more comes, also of what had to wait."""
        while self.hear(joined=joined) or self.client._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def result(self) -> tuple[object, ...]:
        pipeline = self.session.pipeline
        portals = {name: portal_of(step) for name, step in pipeline.portals.items()}
        statements = {name: (step.text, step.stamp) for name, step in pipeline.statements.items()}
        entries = [row.entry(n) for n, row in enumerate(self.recorded)]
        wires = bytes(self.session.target.greeter.sent), self.shown  # type: ignore[attr-defined]
        counts = (self.session.statements, self.session.rows, self.session.refused)
        return portals, statements, entries, wires, counts, list(pipeline.steps), pipeline.status


def request(how: str, text: bytes) -> bytes:
    match how:
        case "query":
            return codec.query(text)
        case "bound":
            return batch(b"", b"", [b"5"])
        case "parsed":
            return batch(b"", b"", [b"5"], text)
        case "terse":
            return batch(b"", b"", [b"5"], describe=False)
        case "terse parsed":
            return batch(b"p", b"", [b"5"], text, describe=False)
        case "portal":
            return batch(b"p", b"", [b"5"], text)
    return execute(b"p") + SYNC


class Still:
    def monotonic(self) -> float:
        return 1.0


def portal_of(step: BindStep) -> tuple[object, ...]:
    prepared = step.prepared and step.prepared.text
    return step.statement, step.body, prepared, step.described, step.plan


@given(ops, st.booleans(), st.booleans())
def test_a_session_that_takes_turns_does_what_one_does_that_reads_message_by_message(
    many: list[Op], joined: bool, ruled: bool
) -> None:
    rails = (NO_WRITES,) if ruled else ()
    quick, slow = World(Pipeline, rails), World(OneByOne, rails)
    for world in (quick, slow):
        asyncio.run(world.story(many, joined))
    assert quick.result() == slow.result()
    assert slow.turns == 0


@pytest.mark.parametrize("how", ["query", "bound", "parsed", "terse", "terse parsed"])
def test_an_ordinary_request_is_one_turn_from_the_second_time_on(how: str) -> None:
    world = World(Pipeline)
    world.ask("parsed", TEXTS[0])
    world.hear()
    world.ask(how, TEXTS[2] if how == "query" else TEXTS[0])
    world.hear()
    assert world.turns == 1
    assert isinstance(world.recorded[-1], Turn)
    assert world.session.pipeline.turn is None


@pytest.mark.parametrize(
    "prepare",
    [
        lambda world: setattr(world.client._held, "limited", True),
        lambda world: setattr(world.session.approvals, "held", object()),
        lambda world: setattr(world.session, "_fresh", True),
        lambda world: setattr(world.session, "_cancelled", True),
        lambda world: setattr(world.session.pipeline, "unsynced", True),
        lambda world: setattr(world.session.pipeline, "skipping", True),
        lambda world: world.session.pipeline.steps.append(QueryStep(b"", codec_verdict(), 0.0, 0.0)),
    ],
    ids=["counted", "held", "fresh", "cancelled", "unsynced", "skipping", "under way"],
)
def test_nothing_is_a_turn_where_the_session_has_something_to_do(prepare: Callable[[World], object]) -> None:
    world = World(Pipeline)
    world.ask("query", TEXTS[0])
    world.hear()
    prepare(world)
    assert not world.client._turn(codec.query(TEXTS[0]))


@pytest.mark.parametrize("how", ["query", "bound", "parsed"])
def test_a_statement_that_is_counted_or_refused_is_no_turn(how: str) -> None:
    counted, refused = World(Pipeline, (COUNTED,)), World(Pipeline, (NO_WRITES,))
    for world, text in ((counted, TEXTS[0]), (refused, b"delete from users where id = 5")):
        world.session.reading.verdict(text)  # type: ignore[union-attr]
        assert world.session.plain_verdict(text, 1.0) is None
        assert not world.client._turn(request(how, text))


def test_what_was_prepared_under_a_watched_name_is_no_turn() -> None:
    world = World(Pipeline, (NO_WRITES,))
    world.ask("parsed", TEXTS[0])
    world.hear()
    world.client._held._watch(b"")
    for how in ("bound", "parsed"):
        assert not world.client._turn(request(how, TEXTS[0]))


def test_a_masked_statement_is_masked_though_its_request_was_a_turn() -> None:
    world = World(Pipeline)
    for _ in range(3):
        world.ask("query", b"select id, email from users")
        world.hear()
    assert world.turns == 2
    assert b"ada@example.com" not in world.shown
    assert world.shown.count(b"***") == 3


def test_an_answer_to_a_turn_after_the_catalog_moved_is_read_anew() -> None:
    """Columns that were clear by the old picture are hidden."""
    world = World(Pipeline)
    for _ in range(2):
        world.ask("query", TEXTS[0])
        world.hear()
    world.ask("query", TEXTS[0])
    assert world.session.pipeline.turn is not None
    world.session.reading.changed = True  # type: ignore[union-attr]
    before = len(world.shown)
    world.hear()
    assert codec.data_row([b"1"]) not in world.shown[before:]
