"""Pictures of a target's catalog, taken over a session's own connection and shared between sessions.

A stamp of the system tables (row count and a hash over oid and xmin of each) tells cheaply whether the last
picture still holds; only when it does not is the whole catalog read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from proxy.authority import Upstream
from proxy.postgres import flushed
from proxy.postgres.target import Rows, Target
from proxy.sql import catalog_queries
from proxy.sql.catalog import Catalog
from proxy.sql.guard import Settings, VerdictCache
from proxy.sql.masked import resolve
from workflows.model import Mask, Terms

_STAMPED = (
    ("pg_class", "oid"),
    ("pg_attribute", "attrelid::pg_catalog.text || ',' || attnum"),
    ("pg_attrdef", "oid"),
    ("pg_inherits", "inhrelid"),
    ("pg_rewrite", "oid"),
    ("pg_proc", "oid"),
    ("pg_operator", "oid"),
    ("pg_namespace", "oid"),
    ("pg_extension", "oid"),
    ("pg_constraint", "oid"),
    ("pg_cast", "oid"),
    ("pg_type", "oid"),
    ("pg_trigger", "oid"),
)


def _stamp_of(table: str, key: str) -> str:
    """The count of a system table's rows and a sum of hashes that any insert, update or delete changes."""
    row = f"pg_catalog.hashtext({key} || ':' || xmin::pg_catalog.text)::pg_catalog.int8"
    return f"(SELECT pg_catalog.count(*) || ':' || pg_catalog.sum({row}) FROM pg_catalog.{table})"  # noqa: S608


STAMP = f"SELECT pg_catalog.concat_ws(';', {', '.join(_stamp_of(*it) for it in _STAMPED)})"
_QUERIES = (
    catalog_queries.RELATIONS,
    catalog_queries.COLUMNS,
    catalog_queries.INHERITANCE,
    catalog_queries.GENERATED,
    catalog_queries.VIEW_READS,
    catalog_queries.VIEW_TEXTS,
    catalog_queries.FUNCTIONS,
    catalog_queries.OPERATORS,
    catalog_queries.OWN_NAMES,
    catalog_queries.FOREIGN_KEYS,
    catalog_queries.CASTS,
    catalog_queries.ROW_FUNCTIONS,
    catalog_queries.TRIGGERS,
    catalog_queries.CASCADES,
    catalog_queries.TIES,
    catalog_queries.INDEXES,
    catalog_queries.PARTITION_KEYS,
)
# Names and operators resolve in pg_catalog only, whatever the session has set; the settings end with the
# transaction, or with the savepoint inside the client's own transaction.
_SETTINGS = "SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0; "
_ALONE = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + _SETTINGS, "; COMMIT")
_INSIDE = (
    "SAVEPOINT portcullis; " + _SETTINGS,
    "; ROLLBACK TO SAVEPOINT portcullis; RELEASE SAVEPOINT portcullis",
)


def stamp_query(in_transaction: bool) -> str:
    """The text that asks for the stamp alone."""
    before, after = _INSIDE if in_transaction else _ALONE
    return before + STAMP + after


_TEXTS = (STAMP, *_QUERIES)
# The client's own settings are back when the gate's questions are through, or with the transaction.
_SET = (
    "SELECT pg_catalog.set_config('portcullis.path', pg_catalog.current_setting('search_path'), true), "
    "pg_catalog.set_config('portcullis.time', pg_catalog.current_setting('statement_timeout'), true)",
    "SELECT pg_catalog.set_config('search_path', '', true), "
    "pg_catalog.set_config('statement_timeout', '0', true)",
)
_BACK = (
    "SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('portcullis.path'), true), "
    "pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('portcullis.time'), true)",
)


def pipelined(*, full: bool) -> tuple[bytes, int]:
    """The same question amid a client's pipeline: its messages, and of how many statements they are. The
    rows that are asked for come behind len(_SET) others, and ahead of len(_BACK).
    """
    texts = (*_SET, *(_TEXTS if full else _TEXTS[:1]), *_BACK)
    return b"".join(flushed.question(text.strip().encode()) for text in texts) + flushed.END, len(texts)


def of_pipelined(results: list[Rows]) -> list[Rows]:
    """The results of the questions themselves."""
    return results[len(_SET) : -len(_BACK)]


def full_query(in_transaction: bool) -> str:
    """The text that asks for the stamp and the whole catalog."""
    before, after = _INSIDE if in_transaction else _ALONE
    return before + "; ".join(query.strip() for query in _TEXTS) + after


@dataclass(frozen=True, slots=True)
class Picture:
    """A catalog and the stamp it had."""

    stamp: str
    catalog: Catalog


def read_stamp(results: list[Rows]) -> str:
    """The stamp from the results of `stamp_query`. Raises ValueError when it is not there."""
    try:
        (((value,),),) = results
    except ValueError as error:
        raise ValueError("the target did not say its catalog's stamp") from error
    return _text(value)


def read_picture(results: list[Rows]) -> Picture:
    """The picture from the results of `full_query`. Raises ValueError when rows are not as asked for."""
    stamp, relations, columns, inheritance, generated, reads, texts, functions, operators, *more = results
    own, keys, casts, of_rows, triggers, cascades, ties, indexes, partition_keys = more
    catalog = Catalog.build(
        relations=[(_int(a), _text(b), _text(c), _text(d)) for a, b, c, d in relations],
        columns=[(_int(a), _int(b), _text(c), _int(d), _text(e), _text(f)) for a, b, c, d, e, f in columns],
        inheritance=[(_int(a), _int(b)) for a, b in inheritance],
        generated=[(_int(a), _int(b), _int(c)) for a, b, c in generated],
        view_reads=[(_int(a), _int(b), _int(c)) for a, b, c in reads],
        view_texts=[(_int(a), _text(b)) for a, b in texts],
        functions=[(_text(a), _text(b), None if c is None else _text(c)) for a, b, c in functions],
        operators=[(_text(a), _text(b), None if c is None else _text(c)) for a, b, c in operators],
        own=[_text(name) for (name,) in own],
        foreign_keys=[(_int(a), _int(b), _int(c), _int(d)) for a, b, c, d in keys],
        casts=[(_text(a), _text(b), None if c is None else _text(c), _int(d)) for a, b, c, d in casts],
        row_functions=[(_text(a), _text(b), None if c is None else _text(c)) for a, b, c in of_rows],
        triggers=[
            (_int(a), _text(b), _int(c), _text(d), _text(e), _text(f)) for a, b, c, d, e, f in triggers
        ],
        cascades=[(_int(a), _int(b), _int(c)) for a, b, c in cascades],
        ties=[(_int(a), _int(b), _int(c), _text(d)) for a, b, c, d in ties],
        indexes=[(_int(a), _text(b), _text(c), _int(d), _text(e) == "t") for a, b, c, d, e in indexes],
        partition_keys=[(_int(a), _int(b)) for a, b in partition_keys],
    )
    return Picture(read_stamp([stamp]), catalog)


def _int(value: bytes | None) -> int:
    return int(_text(value))


def _text(value: bytes | None) -> str:
    if value is None:
        raise ValueError("a NULL stands where the catalog has none")
    return value.decode()


class Pictures:
    """The last picture of each target, and the verdicts read under it, shared by this process's sessions."""

    def __init__(self, warn: Callable[..., None] | None = None) -> None:
        self._warn = warn
        self._last: dict[tuple[str, int, str], Picture] = {}
        self._caches: OrderedDict[tuple[str, tuple[Mask, ...], Settings], VerdictCache] = OrderedDict()

    def known(self, upstream: Upstream, stamp: str) -> Picture | None:
        """The last picture, when it still holds."""
        picture = self._last.get((upstream.host, upstream.port, upstream.database))
        return picture if picture is not None and picture.stamp == stamp else None

    def keep(self, upstream: Upstream, picture: Picture) -> None:
        self._last[upstream.host, upstream.port, upstream.database] = picture

    def verdicts(self, picture: Picture, terms: Terms) -> VerdictCache:
        """The cache of verdicts for what these terms mask, search and trust in this catalog."""
        settings = Settings(trusted_functions=terms.trusted_functions, searches=bool(terms.detect))
        key = (picture.catalog.version, terms.masks, settings)
        cache = self._caches.get(key)
        if cache is None:
            masks = resolve(picture.catalog, terms.masks, terms.trusted_functions)
            if masks.doubts and self._warn is not None:
                self._warn("values of masked columns may be told beside the statements", how=masks.doubts)
            cache = self._caches[key] = VerdictCache(masks, settings)
            if len(self._caches) > 64:
                self._caches.popitem(last=False)
        self._caches.move_to_end(key)
        return cache

    async def load(self, target: Target) -> Picture:
        """The picture of a target that is logged in and idle. Raises ValueError, LoginError."""
        stamp = read_stamp(await target.ask(stamp_query(in_transaction=False)))
        picture = self.known(target.upstream, stamp)
        if picture is None:
            picture = read_picture(await target.ask(full_query(in_transaction=False)))
            self.keep(target.upstream, picture)
        return picture
