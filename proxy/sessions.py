"""Open sessions: their leases, their deadlines, and the cut."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from proxy.authority import Admission, Progress, ReviewDecided
from proxy.recorder import Recorder, Track
from proxy.recording import Header
from workflows.model import EndReason


class Clock(Protocol):
    """Time as the gate sees it."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    def now(self) -> datetime:
        """The instant, aware, UTC; for records only, nothing is decided by it."""
        ...


class SystemClock:
    """The machine's clock. Its monotonic time goes on while the machine sleeps (CLOCK_BOOTTIME, where there
    is one), so that a suspended gate does not lengthen access.
    """

    def __init__(self) -> None:
        which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        self.monotonic: Callable[[], float] = partial(time.clock_gettime, which)  # asked at every statement

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CutReason:
    """Why a session is cut, for its client: what happened, the way out, and the SQLSTATE-like code."""

    why: str
    way_out: str = ""
    code: str = "57P01"
    reason: str = "cut"


_ENDED = {
    EndReason.EXPIRED: "access ended: the grant expired",
    EndReason.RELEASED: "access ended: the grant was released",
    EndReason.REVOKED: "access ended: the grant was revoked",
    EndReason.FAILED: "access ended: the grant could not be made good",
}


def session_killed(by: str, reason: str) -> CutReason:
    why = f"access ended: this session was killed by {by}" + (f": {reason}" if reason else "")
    return CutReason(why, "The grant itself stands; ask them before you connect again.")


def grant_ended(reason: EndReason, detail: str, resource: str) -> CutReason:
    why = _ENDED[reason] + (f" ({detail})" if detail else "")
    return CutReason(why, f"Ask again: /access request {resource} 1h because …")


class OpenSession(ABC):
    """One connection under a grant, from its admission to its end.

    `grant_until` and `lease_until` are monotonic seconds; whichever comes first, the session is cut there.
    """

    def __init__(self, admission: Admission, clock: Clock, asked_at: float) -> None:
        self.admission = admission
        self.clock = clock
        # Counted from before the broker was asked: a slow answer shortens access, it never lengthens it.
        self.grant_until = asked_at + admission.remaining
        self.lease_until = asked_at + admission.lease
        self.origin = clock.monotonic()
        self.track: Track | None = None
        self.over = False
        self.statements = 0
        self.refused = 0
        self.rows = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def cut(self, reason: CutReason) -> None:
        """End the session at once, whatever it is doing; safe to call twice."""

    def decided(self, notice: ReviewDecided) -> None:  # noqa: B027
        """A statement of this session that was held has its answer. For protocols that hold statements."""

    async def begin_recording(self, recorder: Recorder, client: str, protocol: str) -> None:
        """Open the recording, of whoever came from `client`. Raises RecordingError."""
        it = self.admission
        header = Header(
            session=it.session,
            principal=it.principal,
            grant=it.grant,
            resource=it.resource,
            role=it.role,
            client=client,
            protocol=protocol,
            started=self.clock.now().isoformat(),
            owner=it.owner,
            purpose=it.purpose,
        )
        self.track = await recorder.open(header, self.recording_failed)

    def recording_failed(self, why: str) -> None:
        self.cut(
            CutReason(
                f"the session was ended: {why}, and nothing goes on unrecorded",
                "Tell the people who run the gate; then connect again.",
                code="58030",
                reason="error",
            )
        )

    def arm(self) -> None:
        """Set the timer for the earlier of grant and lease."""
        self.disarm()
        if self.over:
            return
        left = min(self.grant_until, self.lease_until) - self.clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(left, 0.0), self.check)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Cut when a deadline has passed; else wait on (a timer may be early, and a lease may be renewed)."""
        now = self.clock.monotonic()
        if now >= self.grant_until:
            self.cut(grant_ended(EndReason.EXPIRED, "", self.admission.resource))
        elif now >= self.lease_until:
            self.cut(
                CutReason(
                    "access ended: the gate has lost the broker and may not keep sessions open without it",
                    "Connect again when the broker is back; the grant itself may still be good.",
                )
            )
        else:
            self.arm()

    def progress(self) -> Progress | None:
        if self.track is None:
            return None
        entries, head = self.track.progress
        return Progress(self.admission.session, entries, head)


class Registry:
    """The open sessions of this process, and the grants that are known to have ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, OpenSession] = {}
        self._ended: dict[str, tuple[float, CutReason]] = {}
        self._killed: dict[str, tuple[float, CutReason]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> tuple[OpenSession, ...]:
        return tuple(self._sessions.values())

    def under(self, grant: str) -> tuple[OpenSession, ...]:
        return tuple(s for s in self._sessions.values() if s.admission.grant == grant)

    def add(self, session: OpenSession) -> None:
        """Take a session in. One that was killed, or whose grant ended, while it was being admitted is cut on
        the spot.
        """
        self._sessions[session.admission.session] = session
        session.arm()
        ended = self._ended.get(session.admission.grant) or self._killed.get(session.admission.session)
        if ended is not None:
            session.cut(ended[1])

    def remove(self, session: OpenSession) -> None:
        session.disarm()
        self._sessions.pop(session.admission.session, None)

    def decided(self, notice: ReviewDecided) -> None:
        """Give a review's answer to its session, if that is here."""
        session = self._sessions.get(notice.session)
        if session is not None:
            session.decided(notice)

    def kill(self, session_id: str, by: str, reason: str) -> bool:
        """Cut this one session, also when it comes in only now; returns whether it was open here."""
        now = self._clock.monotonic()
        why = session_killed(by, reason)
        self._killed = {**_recent(self._killed, now), session_id: (now, why)}
        session = self._sessions.get(session_id)
        if session is not None:
            session.cut(why)
        return session is not None

    def end_grant(self, grant: str, reason: EndReason, detail: str) -> int:
        """Cut everything under `grant`; returns how many sessions that were."""
        now = self._clock.monotonic()
        self._ended = _recent(self._ended, now)
        sessions = self.under(grant)
        resource = sessions[0].admission.resource if sessions else "<resource>"
        why = grant_ended(reason, detail, resource)
        self._ended[grant] = (now, why)
        for session in sessions:
            session.cut(why)
        return len(sessions)

    def renewed(self, asked_at: float, asked: Iterable[OpenSession], answer: Mapping[str, float]) -> None:
        """Take in the broker's answer about the sessions it was `asked` about; the missing are cut."""
        for session in asked:
            if session.over:
                continue
            remaining = answer.get(session.admission.session)
            if remaining is None:
                session.cut(
                    CutReason(
                        "access ended: the broker no longer allows this session",
                        f"Ask again: /access request {session.admission.resource} 1h because …",
                    )
                )
                continue
            session.grant_until = asked_at + remaining
            session.lease_until = asked_at + session.admission.lease
            session.check()


def _recent(ends: dict[str, tuple[float, CutReason]], now: float) -> dict[str, tuple[float, CutReason]]:
    """Without those of more than an hour ago: nobody is being admitted for so long."""
    return {key: end for key, end in ends.items() if end[0] > now - 3600}
