"""The decision for one text: may it run, what is it, and which of its result columns are clear.

Without masks the guard only reads: lexical problems, two parsers, the class. With masks it allows what it can
follow. A statement that touches no table with a masked column and calls nothing unknown is simply allowed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial

from proxy.sql import lexer
from proxy.sql.classify import Traits, class_of, traits, worst_of
from proxy.sql.copies import CopyFormat, copied_columns, copy_format, has_title, sends_rows
from proxy.sql.functions import denied, vouched
from proxy.sql.lineage import Lineage
from proxy.sql.masked import MaskSet
from proxy.sql.parse import Parsed, parse
from proxy.sql.reach import Reach, reach
from proxy.sql.rules import check_lasting, check_rules, check_settings, literal_matters, outputs_of
from proxy.sql.scope import Refused, Taint
from proxy.sql.surface import OPERATOR_FIELD, Surface, surface
from proxy.sql.tree import Message, strings, words
from workflows.model import StatementClass


@dataclass(frozen=True, slots=True)
class Settings:
    """What the session's own settings and the policy say about reading.

    `trusted_functions` are functions outside pg_catalog that policy vouches for, as `name` or `schema.name`:
    they read no masked column and change nothing. `searches` says that the session has detectors.
    """

    standard_conforming_strings: bool = True
    encoding: str = "UTF8"
    max_text: int = lexer.MAX_TEXT
    trusted_functions: frozenset[str] = frozenset()
    searches: bool = False


@dataclass(frozen=True, slots=True)
class ColumnVerdict:
    """One result column: `clear` when proved to derive from no masked column; else masked.

    `plain` says that the value is exactly the column `origin`, so that the mask's own method may be used;
    anything computed is masked in full.
    """

    clear: bool
    plain: bool = False
    origin: tuple[int, int] | None = None


_UNREAD = Traits(StatementClass.UNKNOWN, frozenset({StatementClass.UNKNOWN}), (), opaque=True)
_NOWHERE = Reach()


@dataclass(frozen=True, slots=True)
class StatementVerdict:
    """One statement of the text. `columns` is None when they are not known here (EXECUTE, FETCH, no masks).

    `touches_masked` false means that every column is clear. `defines` and `uses` name a prepared statement
    or a cursor, as ("prepared" | "cursor", name); see SessionNames. `traits` and `reach` are what guardrails
    look at; `runs` names the prepared statement whose traits count too. `copies` is set for a COPY to the
    client whose rows have to be rewritten (see copy.py); `columns` are then those of the rows. `titled` says
    that a COPY to the client begins with a line that is no row.
    """

    kind: str
    statement_class: StatementClass
    tables: frozenset[str]
    touches_masked: bool = False
    columns: tuple[ColumnVerdict, ...] | None = None
    defines: tuple[str, str] | None = None
    uses: tuple[str, str] | None = None
    forgets: tuple[str, str] | None = None
    traits: Traits = _UNREAD
    reach: Reach = _NOWHERE
    runs: tuple[str, str] | None = None
    copies: CopyFormat | None = None
    titled: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate does with a text. `action` is "allow" or "refuse"; the other texts go into the error.

    `scrub_errors`: errors and notices while it runs may carry values and go through errors.scrub.
    `position` (in letters, from 1; else 0) is where in the text a syntax error is.
    `stale`: a name is unknown; refresh the catalog and ask again first. `changes_catalog`: refresh
    after it ran. `literal_matters`: the verdict depends on a constant, so it may not be kept by a blanked
    key.
    """

    action: str
    statement_class: StatementClass
    statements: tuple[StatementVerdict, ...] = ()
    scrub_errors: bool = False
    reason: str = ""
    hint: str = ""
    sqlstate: str = ""
    position: int = 0
    stale: bool = False
    changes_catalog: bool = False
    literal_matters: bool = False

    @property
    def allowed(self) -> bool:
        return self.action == "allow"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The parse-tree kind of each statement, e.g. ("select_stmt",)."""
        return tuple(s.kind for s in self.statements)

    @property
    def tables(self) -> frozenset[str]:
        """All relations mentioned, as `schema.table`."""
        return frozenset().union(*(s.tables for s in self.statements))


def read(text: bytes | str, masks: MaskSet, settings: Settings | None = None) -> Verdict:
    """Decide one text. Never raises for any text; whatever cannot be read is refused."""
    settings = settings or Settings()
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    lexed = lexer.scan(
        raw,
        standard_conforming_strings=settings.standard_conforming_strings,
        encoding=settings.encoding,
        max_text=settings.max_text,
    )
    if lexed.problems:
        return _unread("statement refused unread: " + "; ".join(lexed.problems), "42501")
    try:
        return _read(raw.decode("utf-8"), masks, settings)
    except RecursionError:
        return _unread("the statement nests deeper than the gate reads", "54001")
    except Exception as error:  # a shape nobody thought of: unread means refused
        return _unread(f"the gate failed to read the statement ({type(error).__name__})", "42501")


def _unread(reason: str, sqlstate: str, hint: str = "", position: int = 0) -> Verdict:
    # A syntax error quotes the text it is near: not to be told to who sends other constants.
    return Verdict(
        "refuse",
        StatementClass.UNKNOWN,
        reason=reason,
        sqlstate=sqlstate,
        hint=hint,
        position=position,
        literal_matters=True,
    )


def _read(text: str, masks: MaskSet, settings: Settings) -> Verdict:
    reading = parse(text)
    if reading.unread:
        hint = (
            ""
            if reading.sqlstate == "42601"
            else "Write it in a simpler form; what cannot be read may not run."
        )
        return _unread(reading.unread, reading.sqlstate, hint, reading.position)
    statements, surfaces = [], []
    refused: Refused | None = None
    unknown = False
    for parsed in reading.statements:
        found = surface(parsed.tree, partial(_may_be_called, masks))
        called = (*(strings(call.funcname) for call in found.calls), *found.operators)
        unknown = unknown or any(map(masks.catalog.is_new, called))
        surfaces.append((parsed, found.nodes))
        try:
            statements.append(_statement(parsed, found, masks, settings))
        except Refused as error:
            refused = refused or error
            statements.append(_named(parsed, found, masks, settings, touches=True))
    worst = worst_of(s.statement_class for s in statements)
    matters = any(s.traits.literal_matters for s in statements) or any(
        literal_matters(parsed.kind, nodes) for parsed, nodes in surfaces
    )
    if refused is not None:
        return Verdict(
            "refuse",
            worst,
            tuple(statements),
            reason=refused.reason,
            hint=refused.hint,
            sqlstate=refused.sqlstate,
            stale=refused.sqlstate in ("42P01", "42703"),
            literal_matters=matters,
        )
    return Verdict(
        "allow",
        worst,
        tuple(statements),
        scrub_errors=masks.active and any(_may_tell(s) for s in statements),
        stale=unknown,
        changes_catalog=any(s.kind not in _NO_DDL for s in statements),
        literal_matters=matters,
    )


def _may_be_called(masks: MaskSet, name: str, of_row: bool) -> bool:
    """Whether what is written like a column may be a call that matters. PostgreSQL's own functions over rows
    compute from the row only; over other values they may be any.
    """
    if of_row:
        return name in masks.catalog.row_functions
    catalog = masks.catalog
    named_so = name in catalog.functions or name in catalog.casts
    return named_so or denied(name) or class_of(name) is not StatementClass.READ


# A deferred constraint speaks at COMMIT; EXPLAIN ANALYZE EXECUTE runs what was prepared.
_LATE_ERRORS = frozenset({"transaction_stmt", "constraints_set_stmt", "explain_stmt"})


def _may_tell(statement: StatementVerdict) -> bool:
    """Whether its errors may hold masked values. A write reaches more tables than it names."""
    reads = statement.statement_class is StatementClass.READ
    return statement.touches_masked or not reads or statement.kind in _LATE_ERRORS


_NO_DDL = words(
    """
    select_stmt insert_stmt update_stmt delete_stmt merge_stmt explain_stmt transaction_stmt
    variable_set_stmt variable_show_stmt prepare_stmt execute_stmt deallocate_stmt declare_cursor_stmt
    fetch_stmt close_portal_stmt copy_stmt listen_stmt unlisten_stmt notify_stmt lock_stmt vacuum_stmt
    truncate_stmt check_point_stmt constraints_set_stmt discard_stmt
    """
)


def _named(
    parsed: Parsed, found: Surface, masks: MaskSet, settings: Settings, touches: bool = False
) -> StatementVerdict:
    def unlisted(name: str, message: Message) -> bool:
        if name in ("FuncCall", "TypeName"):
            parts = strings(message.funcname if name == "FuncCall" else message.names)
            if not parts or vouched(parts, settings.trusted_functions):
                return False
            # A type's name may be called like a function's.
            foreign = name == "FuncCall" and masks.catalog.is_foreign_function(parts)
            return foreign or masks.catalog.is_foreign_cast(parts)
        operator = strings(getattr(message, OPERATOR_FIELD[name])) if name in OPERATOR_FIELD else ()
        return bool(operator) and masks.catalog.is_foreign_operator(operator)

    field_of = {"prepare_stmt": "name", "execute_stmt": "name", "deallocate_stmt": "name"}
    field_of |= {
        "declare_cursor_stmt": "portalname",
        "fetch_stmt": "portalname",
        "close_portal_stmt": "portalname",
    }
    key = field_of.get(parsed.kind)
    name = ("prepared" if key == "name" else "cursor", getattr(parsed.tree, key)) if key else None
    uses = name if parsed.kind in ("execute_stmt", "fetch_stmt") else None
    is_what = traits(parsed, found.nodes, unlisted, partial(_known_columns, masks))
    where = reach(parsed, found, masks.catalog, is_what.kinds)
    return StatementVerdict(
        parsed.kind,
        is_what.statement_class,
        where.tables,
        touches or uses is not None,
        defines=name if parsed.kind in ("prepare_stmt", "declare_cursor_stmt") else None,
        uses=uses,
        forgets=name if parsed.kind in ("deallocate_stmt", "close_portal_stmt") else None,
        traits=is_what,
        reach=where,
        runs=next((("prepared", m.name) for name, m in found.nodes if name == "ExecuteStmt"), None),
    )


def _known_columns(masks: MaskSet, ref: Message) -> frozenset[str] | None:
    """The columns of a table; of several of that name, those that any of them has. A view has no ctid."""
    found = masks.catalog.find(ref.schemaname, ref.relname)
    if not found:
        return None
    placed = {"ctid"} if all(relation.kind in "rpm" for relation in found) else set()
    return frozenset({column.name for relation in found for column in relation.columns} | placed)


def _statement(parsed: Parsed, found: Surface, masks: MaskSet, settings: Settings) -> StatementVerdict:
    verdict = _named(parsed, found, masks, settings)
    check_settings(parsed, found, masks.catalog)
    check_lasting(parsed)
    sent = sends_rows(parsed)
    if sent and has_title(parsed.tree):
        verdict = replace(verdict, titled=True)
    if settings.searches and sent:
        verdict = replace(verdict, copies=copy_format(parsed.tree, searched=True))
    if not masks.active:
        return verdict
    if masks.missing:
        raise Refused(
            f"a mask names {masks.missing[0]}, which does not exist: it may have been renamed",
            "Ask an operator to correct the masks in access.yaml.",
        )
    touches = check_rules(parsed, found, masks, settings.trusted_functions)
    if not touches:
        return verdict
    lineage = Lineage(masks.catalog, masks.columns, masks.computed)
    if sent:
        columns = tuple(_column(taint) for _, taint in copied_columns(parsed.tree, lineage) or ())
        if not all(column.clear for column in columns):
            verdict = replace(verdict, copies=copy_format(parsed.tree, searched=settings.searches))
        return replace(verdict, touches_masked=True, columns=columns)
    outputs = outputs_of(parsed, found, lineage, masks)
    known = None if outputs is None else tuple(_column(taint) for _, taint in outputs)
    return replace(verdict, touches_masked=True, columns=known)


def _column(taint: Taint) -> ColumnVerdict:
    if not taint:
        return ColumnVerdict(True)
    plain = taint.shape == "plain"
    return ColumnVerdict(False, plain, min(taint.origins) if plain and len(taint.origins) == 1 else None)


class VerdictCache:
    """Verdicts by key, at most `size` of them, the oldest dropped first. For one MaskSet.

    A blanked key is used where that is sound; a text whose verdict depends on a constant is kept by itself.
    """

    def __init__(self, masks: MaskSet, settings: Settings | None = None, size: int = 10_000) -> None:
        self.masks = masks
        self.settings = settings or Settings()
        self.size = size
        self._kept: OrderedDict[bytes, Verdict | None] = OrderedDict()

    def read(self, text: bytes) -> Verdict:
        """The verdict for `text`, from memory where it is known."""
        settings = self.settings
        lexed = lexer.scan(
            text,
            standard_conforming_strings=settings.standard_conforming_strings,
            encoding=settings.encoding,
            max_text=settings.max_text,
        )
        kept = self._kept.get(lexed.key)
        if kept is None and lexed.key in self._kept:  # constants matter for texts of this shape
            kept = self._kept.get(b"\0" + text)
        if kept is not None:
            return kept
        verdict = read(text, self.masks, settings)
        if lexed.problems:
            return verdict
        if lexed.exact or not verdict.literal_matters:
            self._keep(lexed.key, verdict)
        else:
            self._keep(lexed.key, None)
            self._keep(b"\0" + text, verdict)
        return verdict

    def _keep(self, key: bytes, verdict: Verdict | None) -> None:
        self._kept[key] = verdict
        self._kept.move_to_end(key)
        while len(self._kept) > self.size:
            self._kept.popitem(last=False)


@dataclass(slots=True)
class SessionNames:
    """What a session's prepared statements and cursors give back, so that EXECUTE and FETCH are masked right.

    The gate calls `note` once a statement has run without error, and `resolve` before planning the columns.
    """

    known: dict[tuple[str, str], StatementVerdict] = field(default_factory=dict)

    def note(self, statement: StatementVerdict) -> None:
        """A statement ran: what its names give back from now on."""
        if statement.kind == "discard_stmt":
            self.known.clear()
        if statement.forgets is not None:
            space, name = statement.forgets
            for known in [k for k in self.known if k[0] == space and name in ("", k[1])]:
                del self.known[known]
        if statement.defines is not None:
            self.known[statement.defines] = statement

    def parsed(self, name: str, statement: StatementVerdict) -> None:
        """A Parse message named a statement: SQL's EXECUTE finds it too."""
        self.known["prepared", name] = statement

    def bound(self, portal: str, statement: StatementVerdict) -> None:
        """A Bind message named a portal: SQL's FETCH finds it too."""
        self.known["cursor", portal] = statement

    def catalog_changed(self) -> None:
        """What comes back must be read anew; what a prepared statement does stays known to the guardrails."""
        self.known = {
            name: it if name[0] == "cursor" else replace(it, columns=None, touches_masked=True)
            for name, it in self.known.items()
        }

    def resolve(self, statement: StatementVerdict) -> StatementVerdict:
        """The statement whose columns come back: itself, or what it EXECUTEs or FETCHes from, when known."""
        return self.known.get(statement.uses, statement) if statement.uses is not None else statement
