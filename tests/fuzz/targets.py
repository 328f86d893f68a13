"""What is fuzzed: functions of any bytes. Each raises only where a promise is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from proxy.postgres import codec, turns
from proxy.sql import lexer
from proxy.sql.catalog import Catalog
from proxy.sql.detect import DETECTORS, hide, json_hider
from proxy.sql.guard import VerdictCache, read
from proxy.sql.guardrails import Allow, judge
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.methods import email, hasher, last4, pseudonym
from proxy.sql.parse import parse
from proxy.sql.rows import MaskPlan, Replacement, rewrite_in_c, rewrite_in_python
from workflows.model import Action, Guardrail, Mask, StatementClass

HERE = Path(__file__).parent
CORPUS = HERE.parent / "proxy" / "sql" / "corpus"

_INT, _TEXT, _JSONB = (23, "int4", "N"), (25, "text", "S"), (3802, "jsonb", "U")


def _catalog() -> Catalog:
    tables = {
        "users": {
            "id": _INT,
            "name": _TEXT,
            "email": _TEXT,
            "phone": _TEXT,
            "salary": _INT,
            "profile": _JSONB,
        },
        "orders": {"id": _INT, "user_id": _INT, "total": _INT, "note": _TEXT},
        "names": {"name": _TEXT},
        "stock": {"id": _INT, "name": _TEXT, "shelf": _INT, "active": (16, "bool", "B"), "tags": _JSONB},
        "shelves": {"id": _INT, "place": _TEXT},
        "contacts": {"id": _INT, "mail": _TEXT},
    }
    relations = [(oid, "public", name, "r") for oid, name in enumerate(tables, 20_000)]
    relations[-1] = (*relations[-1][:3], "v")
    columns = [
        (oid, number, name, *kind)
        for oid, table in enumerate(tables.values(), 20_000)
        for number, (name, kind) in enumerate(table.items(), 1)
    ]
    reads = [(20_005, 20_000, 1), (20_005, 20_000, 3)]
    return Catalog.build(
        relations, columns, view_reads=reads, view_texts=[(20_005, "SELECT id, email AS mail FROM users")],
        functions=[("public", "mail_of", None), ("public", "similarity", "pg_trgm")],
    )  # fmt: skip


MASKED = resolve(_catalog(), [Mask("public.users", column) for column in ("email", "salary", "profile")])
PLAIN = resolve(_catalog(), [])
DANGER = frozenset({StatementClass.DESTRUCTIVE, StatementClass.ADMIN, StatementClass.UNKNOWN})
RAILS = (
    Guardrail("columns", Action.REFUSE, columns=("public.users.salary",), tables=("*.users",)),
    Guardrail("danger", Action.HOLD, DANGER, when="statement.bounded != true || size(statement.tables) > 3"),
)


def lexing(data: bytes) -> None:
    """A key is never longer than its text, and the key of a key is itself."""
    found = lexer.scan(data)
    if not found.exact:
        assert len(found.key) <= len(data) + data.count(b"'")
        again = lexer.scan(found.key)
        assert again.exact or again.key == found.key


def parsing(data: bytes) -> None:
    if not lexer.scan(data).problems:
        reading = parse(data.decode())
        assert not (reading.unread and reading.statements)


def guarding(data: bytes) -> None:
    """Every text is read without a surprise, the same from the cache, and the unread never passes."""
    for masks in (MASKED, PLAIN):
        verdict = read(data, masks)
        assert not verdict.reason.startswith("the gate failed"), verdict.reason
        judgement = judge(verdict, RAILS)
        if verdict.allowed and verdict.statement_class is StatementClass.UNKNOWN:
            assert not isinstance(judgement, Allow)
        _cached(data, masks)


def _cached(data: bytes, masks: MaskSet) -> None:
    """A text is not read differently because its twin, with other constants, was read before."""
    cache = VerdictCache(masks)
    cache.read(data.replace(b"1", b"2").replace(b"a'", b"b'"))
    kept, fresh = cache.read(data), read(data, masks)
    assert kept == fresh


_METHODS: tuple[Replacement, ...] = (
    b"***", None, b"", last4, email, hasher(b"k"), pseudonym(b"k", 25, False), pseudonym(b"k", 23, True),
)  # fmt: skip


def rewriting(data: bytes) -> None:
    """Compiled and plain make the same of any bytes under any plan."""
    if len(data) < 3:
        return
    width, which, whatever = data[0] % 6, data[1], data[2]
    plan = MaskPlan(
        width,
        tuple((i, _METHODS[(which + i) % len(_METHODS)]) for i in range(width) if which >> i & 1),
        frozenset(i for i in range(width) if whatever >> i & 1),
    )
    made = []
    for way in (rewrite_in_c, rewrite_in_python):
        try:
            made.append(way(data[3:], plan))
        except (ValueError, IndexError):
            made.append(None)
    assert made[0] == made[1]


_READERS: tuple[Callable[[bytes], object], ...] = (
    codec.read_startup, codec.read_cancel, codec.read_report, codec.read_row_description,
    codec.read_parameter_description, codec.read_data_row, codec.read_bind,
    lambda data: list(codec.split(data)),
)  # fmt: skip


def decoding(data: bytes) -> None:
    """Bytes that are no message are a WireError, and nothing else."""
    for reader in _READERS:
        try:
            found = reader(data)
        except codec.WireError:
            continue
        if reader is codec.read_data_row:
            assert codec.read_data_row(codec.data_row(found)[5:]) == found  # type: ignore[arg-type]


def taking_turns(data: bytes) -> None:
    """Compiled and plain read the same in any bytes, and a key is the lexer's."""
    assert turns.read_query(data) == turns.read_query_in_python(data)
    assert turns.read_batch(data) == turns.read_batch_in_python(data)
    for ahead in (b"", b"2", b"12"):
        assert turns.read_answer(data, ahead) == turns.read_answer_in_python(data, ahead)
    key = turns.key(data)
    assert key == turns.key_in_python(data)
    assert key is None or key == lexer.scan(data).key
    for scrub in (False, True):
        it = (7, 1.5, 0.25, data[:40], b"SELECT 1", 1, data, scrub, "read")
        compiled, plain = turns.line(*it), turns.line_in_python(*it)
        assert (compiled and json.loads(compiled)) == (plain and json.loads(plain))


def detecting(data: bytes) -> None:
    """What was hidden stays hidden, and JSON stays JSON."""
    names = tuple(DETECTORS)
    text = data.decode("utf-8", "replace")
    once = hide(text, names)
    assert hide(once, names) == once
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return
    json.loads(json_hider(names, False)(data))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "lexing": lexing, "parsing": parsing, "guarding": guarding,
    "rewriting": rewriting, "decoding": decoding, "detecting": detecting, "taking_turns": taking_turns,
}  # fmt: skip


def seeds(target: str) -> Iterator[bytes]:
    """What a target begins with: what earlier runs found, and for SQL the corpora."""
    folder = HERE / "seeds" / target
    yield from (path.read_bytes() for path in sorted(folder.glob("*")))
    if target in ("lexing", "parsing", "guarding"):
        for name in ("attacks.yaml", "honest.yaml", "guardrails.yaml"):
            yield from _texts(yaml.safe_load((CORPUS / name).read_text()))
    elif target == "detecting":
        for entry in _texts(yaml.safe_load((CORPUS / "detect.yaml").read_text())):
            plain = entry.replace("«".encode(), b"").replace("»".encode(), b"")
            yield from (plain, json.dumps({"a": [plain.decode(), 5]}).encode())
    elif target == "rewriting":
        row = codec.data_row([b"12", b"ada@example.com", None])
        yield from (bytes([3, which, 1]) + row * 2 for which in range(8))
    elif target == "taking_turns":
        run = codec.message(b"E", b"\0\0\0\0\0") + codec.message(b"S")
        bind = codec.bind(codec.Bind(b"", b"", (0,), (b"5", None), ()))
        done = codec.message(b"C", b"SELECT 1\0") + codec.message(b"Z", b"I")
        row = codec.message(b"T", b"\0\0") + codec.data_row([])
        yield from (bind + codec.describe_portal(b"") + run, codec.query(b"SELECT 1.5"), bind[5:])
        yield codec.parse(b"", b"SELECT $1") + bind + codec.describe_portal(b"") + run
        yield from (ahead + row + done for ahead in (b"", codec.message(b"2")))
    else:
        yield from (
            codec.data_row([b"a", None])[5:],
            codec.startup({"user": "ada"}),
            codec.query(b"SELECT 1"),
        )
        yield codec.row_description(
            [codec.Column(name=b"id", table=1, attribute=1, type=23, size=4, modifier=-1, format=0)]
        )


def _texts(value: object) -> Iterator[bytes]:
    if isinstance(value, dict):
        for inside in value.values():
            yield from _texts(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside)
    else:
        yield str(value).encode("utf-8", "surrogatepass")
