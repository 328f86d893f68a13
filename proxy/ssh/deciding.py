"""Whether a command line may run: read, judged by the guardrails, and held for people where they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.authority import ReviewDecided
from proxy.sql.guardrails import Allow, Circumstances, Hold, Judgement, Refuse
from proxy.ssh.guard import judge
from proxy.ssh.holding import Held
from proxy.ssh.shell.read import read
from proxy.ssh.tape import Execution

if TYPE_CHECKING:
    from proxy.ssh.session import Session


class Deciding:
    """The decisions of one channel, one line at a time. `tell` says something to the client meanwhile."""

    def __init__(self, session: Session, tell: Callable[[str], None]) -> None:
        self._session = session
        self._tell = tell
        self._held: Held | None = None

    async def refusal(self, execution: Execution, *, terminal: bool) -> str:
        """Why the line of `execution` may not run, in words; empty where it may. What was read and decided is
        noted in `execution`.
        """
        it = self._session.admission
        terms = it.terms
        self._held = None
        if not terms.guardrails and terms.hold_all is None:
            return ""
        line = read(execution.text, terminal=terminal)
        execution.verdict = line.statement_class.value
        where = Circumstances(it.principal, it.resource, it.role)
        judgement: Judgement = judge(line, terms.guardrails, where) if terms.guardrails else Allow()
        if isinstance(judgement, Refuse):
            return f"{judgement.message}. {judgement.hint}"
        if terms.hold_all is not None and not isinstance(judgement, Hold):
            judgement = Hold((terms.hold_all,))
        if not isinstance(judgement, Hold):
            return ""
        held = self._held = Held(self._session, execution.text, line.statement_class, judgement, self._tell)
        execution.decided = held.review
        return await held.decide()

    def decided(self, notice: ReviewDecided) -> None:
        if self._held is not None:
            self._held.decided(notice)

    def over(self, outcome: str, why: str) -> None:
        """The line has run (`outcome`), or its channel is closed before it could (`why`)."""
        held, self._held = self._held, None
        if held is None:
            return
        if held.taken:
            held.finished(outcome)
        else:
            held.abandon(why)
