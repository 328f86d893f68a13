"""How one session's statements are read: the verdict on each text, and the mask plan of each result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from proxy.postgres import codec, turns
from proxy.postgres.picture import Picture, Pictures
from proxy.sql import errors, lexer
from proxy.sql.copy import CopyPlan, plan_copy
from proxy.sql.guard import SessionNames, StatementVerdict, Verdict, VerdictCache
from proxy.sql.guardrails import Allow, Circumstances, Hold, Limits, Refuse, judge, worst_class
from proxy.sql.mask import FieldDescription, plan_columns
from proxy.sql.rows import MaskPlan
from workflows.model import StatementClass, Terms

PASS = Verdict("allow", StatementClass.UNKNOWN)
"""The verdict of a session whose terms ask for no reading."""

NO_FUNCTION_CALL = Verdict(
    "refuse",
    StatementClass.UNKNOWN,
    reason="FunctionCall messages do not pass the gate, it cannot read them",
    hint="Call the function in a SELECT.",
    sqlstate="42501",
)

CASTING = Verdict(
    "refuse",
    StatementClass.UNKNOWN,
    reason="a parameter's type runs a function that is not PostgreSQL's own",
    hint="Send the value as text.",
    sqlstate="42501",
)

CANCELLED = Verdict(
    "refuse", StatementClass.UNKNOWN, reason="canceling statement due to user request", sqlstate="57014"
)
"""PostgreSQL's own words."""

CHECK_EVERY = 5.0
"""Seconds after which a changed catalog is noticed, when it was changed by somebody else."""

CHECK_AMID = 4 * CHECK_EVERY
"""The same in the middle of a pipeline that does not come to rest."""

_KEPT = 4096
NO_LIMITS = Limits()

_PLAIN_KINDS = frozenset({"select_stmt", "insert_stmt", "update_stmt", "delete_stmt"})


def is_plain(verdict: Verdict) -> bool:
    """Whether a text is allowed as it is, one statement, and leaves nothing behind for the gate to know."""
    if verdict.action != "allow" or verdict.stale or verdict.changes_catalog or len(verdict.statements) != 1:
        return False
    it = verdict.statements[0]
    named = it.defines or it.uses or it.forgets or it.runs
    return it.kind in _PLAIN_KINDS and named is None and not isinstance(verdict, Ruled)


@dataclass(frozen=True, slots=True)
class Ruled(Verdict):
    """A verdict after the guardrails. Its `action` may also be "hold", and then `hold` says for whom.

    `named` tells that it depends on what a prepared statement's name stands for at the moment.
    """

    hold: Hold | None = None
    limits: Limits = NO_LIMITS
    named: bool = False


class Reading:
    """A guarded session's reader. `changed` says that a statement changed the catalog since the picture."""

    def __init__(
        self,
        pictures: Pictures,
        picture: Picture,
        terms: Terms,
        key: bytes,
        now: float,
        who: Circumstances | None = None,
    ) -> None:
        self._pictures = pictures
        self._terms = terms
        self._who = who or Circumstances()
        self.masks = bool(terms.masks)
        self._key = key
        self._names = SessionNames()
        self._meanings: dict[bytes, bytes] = {}
        self._cache: VerdictCache
        self._known: dict[bytes, Verdict] = {}
        self._plain: dict[bytes, Verdict] = {}  # those of them that are plain
        self._plans: dict[bytes, tuple[StatementVerdict | None, MaskPlan | None]] = {}
        self.stamp = ""
        self.checked = now
        self.changed = False
        self.take(picture, now)

    def take(self, picture: Picture, now: float) -> None:
        """Read by this picture from now on."""
        self.checked = now
        self.changed = False
        if picture.stamp == self.stamp:
            return
        self.stamp = picture.stamp
        self._cache = self._pictures.verdicts(picture, self._terms)
        self._known = {}
        self._plain = {}
        self._plans = {}
        # A prepared statement is planned anew by the new catalog, a cursor's plan stays what it was.
        self._names.catalog_changed()

    def verdict(self, text: bytes) -> Verdict:
        """The verdict on a text; the same text is looked up, not read, the second time."""
        blanked = turns.key(text)
        key = text if blanked is None else blanked
        found = self._known.get(key)
        if found is None:
            found = self._guardrails(self._cache.read(text))
            if len(self._known) >= _KEPT:
                self._known.clear()
                self._plain.clear()
            if len(key) <= _KEPT:
                lexed = lexer.scan(text)
                shared = lexed.key == blanked and not lexed.exact and not found.literal_matters
                if isinstance(found, Ruled) and found.named:
                    pass  # what the name stands for may change
                elif shared or blanked is None:  # a text that is its own key is nobody else's blanked key
                    # Under a blanked key only because the lexer gave that key, too.
                    self._known[key] = found
                    if is_plain(found):
                        self._plain[key] = found
        return found

    def known_plain(self, text: bytes) -> Verdict | None:
        """The verdict on a text that was read before, where it is a plain one."""
        return self._plain.get(turns.key(text) or text)

    def typed(self, verdict: Verdict, types: bytes) -> Verdict:
        """The verdict on a text whose parameters are of these types (as in a Parse): a value of some types
        runs a function of the database's own, which could not be written in the text either.
        """
        bad = self._cache.masks.catalog.cast_types
        if not bad or len(types) <= 2 or verdict.action == "refuse":
            return verdict
        if bad.isdisjoint(codec.read_parameter_description(types)):
            return verdict
        return CASTING

    def stamp_for(self, verdict: Verdict) -> str:
        """Until when this verdict holds: as long as `stamp` equals it. Empty when it has to be found anew."""
        return "" if isinstance(verdict, Ruled) and verdict.named else self.stamp

    def _guardrails(self, verdict: Verdict) -> Verdict:
        """The verdict after the guardrails."""
        if not verdict.allowed or not (self._terms.guardrails or self._terms.hold_commit):
            return verdict
        named = any(statement.runs is not None for statement in verdict.statements)
        where = replace(self._who, prepared=self._names.known) if named else self._who
        if named:  # EXECUTE does what its statement does
            verdict = replace(verdict, statement_class=worst_class(verdict, where))
        match judge(verdict, self._terms.guardrails, where):
            case Refuse(_, message, hint, sqlstate):
                return _ruled(
                    verdict, action="refuse", reason=message, hint=hint, sqlstate=sqlstate, named=named
                )
            case Hold() as hold:
                return _ruled(verdict, action="hold", hold=hold, limits=hold.limits, named=named)
            case Allow(limits) if self._terms.hold_all is not None:
                hold = Hold((self._terms.hold_all,), limits)
                return _ruled(verdict, action="hold", hold=hold, limits=limits, named=named)
            case Allow(limits):
                return (
                    _ruled(verdict, limits=limits, named=named) if named or limits != NO_LIMITS else verdict
                )

    def prepared(self, name: bytes) -> Verdict | None:
        """The verdict on running what SQL's PREPARE named; None when the gate knows no such name."""
        statement = self._names.known.get(("prepared", name.decode("utf-8", "replace")))
        if statement is None:
            return None
        run = replace(statement, kind="execute_stmt", defines=None)
        return self._guardrails(Verdict("allow", run.statement_class, (run,)))

    def meaning(self, name: bytes) -> bytes:
        """The text that a prepared statement's name stands for, as it was sent; empty when not known."""
        return self._meanings.get(name, b"")

    def parsed(self, name: bytes, text: bytes, verdict: Verdict) -> None:
        """A Parse gave a name: SQL's EXECUTE finds it, too."""
        self._meanings[name] = text
        if len(verdict.statements) == 1:
            self._names.parsed(name.decode("utf-8", "replace"), verdict.statements[0])

    def bound(self, portal: bytes, verdict: Verdict | None, stamp: str) -> None:
        """A Bind named a portal: SQL's FETCH finds it, too, in place of a cursor of that name. `stamp` is the
        catalog's when the verdict was found.
        """
        name = portal.decode("utf-8", "replace")
        if verdict is not None and stamp == self.stamp and len(verdict.statements) == 1:
            self._names.bound(name, verdict.statements[0])
        else:
            self._names.known.pop(("cursor", name), None)

    def closed(self, name: bytes) -> None:
        self._meanings.pop(name, None)
        self._names.known.pop(("prepared", name.decode("utf-8", "replace")), None)

    def ran(self, statement: StatementVerdict, text: bytes) -> None:
        """A statement of this text went through: remember what its name stands for."""
        self._names.note(statement)
        if statement.defines is not None and statement.defines[0] == "prepared":
            self._meanings[statement.defines[1].encode()] = text

    def plan(
        self, description: bytes, statement: StatementVerdict | None, *, hide: bool = False
    ) -> MaskPlan | None:
        """How the rows under this description change; None when they go as they come. `hide` masks all."""
        if statement is not None and statement.uses is not None:
            statement = self._names.resolve(statement)
        hide = hide or self.changed
        kept = self._plans.get(description)
        if kept is not None and kept[0] is statement and not hide:
            return kept[1]
        plan = self._plan(codec.read_row_description(description), statement, hide)
        if not hide:
            if len(self._plans) >= _KEPT:
                self._plans.clear()
            self._plans[description] = (statement, plan)
        return plan

    def copy_plan(self, text: bytes, index: int, width: int) -> CopyPlan | None:
        """How the rows of the COPY that is statement `index` of a text change; None when they do not.

        Raises ValueError where the gate does not know that.
        """
        if not (self.masks or self._terms.detect):
            return None
        verdict = self.verdict(text)
        statement = verdict.statements[index] if index < len(verdict.statements) else None
        if self.changed or verdict.action == "refuse" or statement is None or statement.kind != "copy_stmt":
            raise ValueError("COPY began to send what the gate cannot mask")
        return plan_copy(statement, width, self._cache.masks, self._key, self._terms.detect)

    def _plan(
        self, columns: Sequence[codec.Column], statement: StatementVerdict | None, hide: bool
    ) -> MaskPlan | None:
        masks = self._cache.masks
        fields = [
            FieldDescription(
                c.name.decode("utf-8", "replace"), c.table, c.attribute, c.type, c.size, c.modifier, c.format
            )
            for c in columns
        ]
        if hide and masks.active:
            # The catalog moved under the statements on their way: nothing about these columns is proved.
            fields = [replace(field, table_oid=0, attnum=0) for field in fields]
            statement = None
        plan = plan_columns(fields, statement, masks, self._key, self._terms.detect)
        return None if plan.idle else plan


def _ruled(verdict: Verdict, **changes: object) -> Ruled:
    return Ruled(**({field.name: getattr(verdict, field.name) for field in fields(verdict)} | changes))


def scrub(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """An error's or notice's fields without the values that may stand in them."""
    texts = {key.decode("ascii", "replace"): text.decode("utf-8", "replace") for key, text in fields.items()}
    return {key.encode(): text.encode() for key, text in errors.scrub(texts).items()}
