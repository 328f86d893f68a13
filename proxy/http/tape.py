"""What one request and its answer leave in the recording: always their line; heads and bodies by policy."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

from proxy.http.codec import Head, Header, RequestHead, ResponseHead, reason_of
from proxy.http.pages import Said
from proxy.recorder import Track, kept_text
from proxy.recording import Exchange, Screen, Statement
from proxy.sql.detect import hide
from proxy.ssh.tape import Decided

KEPT = 64 * 1024
"""Bytes that are kept of each body."""
_STARS = "***"
_SECRET_FIELDS = re.compile(
    rb"(proxy-)?authorization|(set-)?cookie|portcullis-.*|.*(token|secret|password|api-?key|signature|assertion).*"
)
_NAMES = "pass(word|wd)?|secret|token|api_?key|access_?key|private_?key|client_secret|code|signature|sig|jwt"
_SECRET_QUERY = re.compile(rf"([?&](?:[\w.-]*[_.-])?(?:{_NAMES})=)[^&]*", re.I)
_SECRET_JSON = re.compile(rf'("(?:[\w.-]*[_.-])?(?:{_NAMES})"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^\s,}}\]]+)', re.I)
_TEXT = re.compile(
    rb"(text/.*|application/(.*\+)?(json|xml)|application/(x-www-form-urlencoded|graphql|x-ndjson))"
)


@dataclass(slots=True)
class _Row:
    """A request's line in the recording, once its outcome is known."""

    text: str
    channel: int
    at: float
    took: float
    outcome: str
    tag: str
    message: str
    verdict: str
    sent: int
    received: int
    decided: Decided

    def line(self, n: int) -> None:
        """There is no shorter way than by `entry`."""

    def entry(self, n: int) -> Statement:
        text, sha256, length = kept_text(self.text.encode())
        return Statement(
            n=n,
            at=self.at,
            text=text,
            outcome=self.outcome,
            took=self.took,
            tag=self.tag,
            message=self.message,
            verdict=self.verdict,
            sha256=sha256,
            length=length,
            review=self.decided.review,
            decision=self.decided.decision,
            decided_by=self.decided.by,
            waited=round(self.decided.waited, 3),
            channel=self.channel,
            what="http",
            sent=self.sent,
            received=self.received,
        )


class _Text:
    """The beginning of a body, where it is a text that can be read."""

    def __init__(self, head: Head) -> None:
        kind = (head.get(b"content-type") or b"").partition(b";")[0].strip().lower()
        coded = head.get(b"content-encoding") not in (None, b"identity")
        self._left = KEPT if _TEXT.fullmatch(kind) and not coded else 0
        self._kept = bytearray()

    def take(self, data: bytes) -> None:
        if self._left > 0:
            self._kept += data[: self._left]
            self._left -= len(data)

    def text(self, hidden: tuple[str, ...]) -> str:
        if not self._kept:
            return ""
        text = hidden_text(codecs.getincrementaldecoder("utf-8")("replace").decode(bytes(self._kept)))
        return hide(text, hidden) if hidden else text


@dataclass(slots=True)
class Tape:
    """The recording of one exchange. `level` is lines, heads or bodies; `hidden` are detectors."""

    track: Track
    head: RequestHead
    number: int
    at: float
    level: str
    hidden: tuple[str, ...] = ()
    decided: Decided = field(default_factory=Decided)
    status: int = 0
    _answer: ResponseHead | None = None
    _sent: _Text | None = None
    _received: _Text | None = None
    _said: str = ""

    def begin(self, line: str) -> None:
        """Tell at once of what will be there for long."""
        self.track.tell(Screen(self.number, self.at, "begin", hidden_line(line)))

    def show(self, at: float, event: str, text: str) -> None:
        """Tell something as it happens: `event` is as in a Screen."""
        self.track.tell(
            Screen(self.number, round(at, 6), event, hide(text, self.hidden) if self.hidden else text)
        )

    def sent(self, data: bytes) -> None:
        if self.level == "bodies":
            if self._sent is None:
                self._sent = _Text(self.head)
            self._sent.take(data)

    def answered(self, head: ResponseHead) -> None:
        self.status = head.status
        self._answer = head
        if self.level == "bodies":
            self._received = _Text(head)

    def received(self, data: bytes) -> None:
        if self._received is not None:
            self._received.take(data)

    def said(self, said: Said) -> None:
        """The gate itself answered."""
        self.status = said.status
        self._said = said.code

    def end(
        self, line: str, outcome: str, message: str, took: float, verdict: str, sizes: tuple[int, int]
    ) -> None:
        """Tell the whole of it."""
        if self.level != "lines":
            self.track.tell(self._exchange())
        status = self.status
        tag = f"{status} {reason_of(status).decode()}".strip() if status else ""
        self.track.append(
            _Row(
                hidden_line(line),
                self.number,
                round(self.at, 6),
                round(took, 6),
                outcome or ("ok" if status < 400 else "error"),
                tag,
                message,
                verdict,
                *sizes,
                self.decided,
            )
        )

    def _exchange(self) -> Exchange:
        return Exchange(
            self.number,
            round(self.at, 6),
            self.status,
            _shown(self.head.headers),
            _shown(self._answer.headers) if self._answer is not None else [],
            self._sent.text(self.hidden) if self._sent is not None else "",
            self._received.text(self.hidden) if self._received is not None else "",
        )


def _shown(headers: list[Header]) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), _STARS if _is_secret(name) else value.decode("latin-1"))
        for name, value in headers
    ]


_known: dict[bytes, bool] = {}


def _is_secret(name: bytes) -> bool:
    found = _known.get(name)
    if found is None:
        found = _SECRET_FIELDS.fullmatch(name) is not None
        if len(_known) < 1000:
            _known[name] = found
    return found


def hidden_text(text: str) -> str:
    """A text without the values that are secrets by their names, in JSON and in forms."""
    text = _SECRET_JSON.sub(rf'\1"{_STARS}"', text)
    return _SECRET_QUERY.sub(rf"\1{_STARS}", "&" + text)[1:]


def hidden_line(line: str) -> str:
    """A request's line without the values of a query that are secrets by their names."""
    return _SECRET_QUERY.sub(rf"\1{_STARS}", line) if "?" in line else line
