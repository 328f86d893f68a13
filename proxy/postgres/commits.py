"""What a session's open transaction has written so far, for a role whose writes are held at the COMMIT.

The approval is for the whole transaction: its digest covers every writing statement in order, and a statement
more makes it another one.
"""

from __future__ import annotations

import re

from proxy.postgres.holding import Words
from proxy.postgres.pipeline import Execution
from proxy.postgres.reading import Ruled
from proxy.sql.guard import StatementVerdict, Verdict
from proxy.sql.guardrails import Hold
from workflows.model import Guardrail, StatementClass

# Transaction statements that keep nothing. Whatever else stands there, a comment ahead say, may be a COMMIT.
_KEEPS_NOTHING = re.compile(rb"\s*(begin|start|rollback|abort|savepoint|release)\b", re.IGNORECASE)
_BEGINS = (b"BEGIN", b"START TRANSACTION")
_ENDS = (b"COMMIT", b"ROLLBACK", b"PREPARE TRANSACTION")
_COMMITS_INSIDE = frozenset({"call_stmt", "do_stmt"})


class Commits:
    """The tally of one session's transaction."""

    def __init__(self, rail: Guardrail) -> None:
        self._rail = rail
        self.reset()

    def reset(self) -> None:
        """A transaction is over."""
        self.in_block = False
        self.rows = 0
        self._texts: list[bytes] = []
        self._statements: list[StatementVerdict] = []

    @property
    def pending(self) -> bool:
        """Whether something was written that is not committed."""
        return bool(self._texts)

    def add(self, step: Execution) -> None:
        """A statement has run."""
        for tag in step.tag.split(b"; "):
            if tag in _BEGINS:
                self.in_block = True
            elif tag in _ENDS:
                self.reset()
        if step.outcome not in ("ok", "suspended") or not writes(step.verdict):
            return
        values = b" -- values: " + step.bound if step.bound else b""
        meaning = b"\n-- which was prepared as:\n" + step.meaning if step.meaning else b""
        self._texts.append(b"%b%b%b\n-- %d rows" % (step.text, meaning, values, step.rows))
        self._statements.extend(step.verdict.statements)
        self.rows += step.rows

    def words(self, last: bytes) -> Words:
        """The whole transaction as people see it, ended by `last`."""
        return Words(b"\n".join([*self._texts, last]))

    def held(self) -> Ruled:
        """The verdict that holds it."""
        classes = [statement.statement_class for statement in self._statements]
        worst = max(classes, key=list(StatementClass).index, default=StatementClass.WRITE)
        return Ruled("hold", worst, tuple(self._statements), hold=Hold((self._rail,)))


def writes(verdict: Verdict) -> bool:
    """Whether a text may leave something to be committed; PREPARE only says what will be run."""
    return verdict.statement_class is not StatementClass.READ and set(verdict.kinds) != {"prepare_stmt"}


def may_commit(verdict: Verdict, text: bytes) -> bool:
    """Whether a text of one statement may be a COMMIT."""
    return verdict.kinds == ("transaction_stmt",) and not _KEEPS_NOTHING.match(text)


def cannot_be_held(verdict: Verdict) -> str:
    """Why a text could commit out of the gate's sight; empty when it cannot."""
    if len(verdict.kinds) > 1 and "transaction_stmt" in verdict.kinds:
        return "a text that begins or ends a transaction among other statements"
    if _COMMITS_INSIDE.intersection(verdict.kinds):
        return "CALL and DO, which may commit by themselves,"
    return ""
