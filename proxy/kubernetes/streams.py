"""Streams over one connection, as exec and attach have them: v4.channel.k8s.io and v5.channel.k8s.io over
WebSocket, and the former over SPDY.

Each message begins with a byte that names its channel: 0 standard input, 1 output, 2 standard error, 3 the
outcome (a Status), 4 the terminal's size; in v5 a 255 is followed by the channel that is closed. Over SPDY
each is a stream, whose `streamtype` names it. Source:
k8s.io/apimachinery/pkg/util/remotecommand, k8s.io/apiserver/pkg/util/wsstream.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from proxy.http import frames
from proxy.http.frames import Frames
from proxy.http.kinds import Blocked
from proxy.kubernetes import spdy
from proxy.kubernetes.spdy import Opened, SpdyFrames
from proxy.ssh.tape import KEPT, Stream

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
"""What is read here, the best first."""
TUNNELS = ("SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io")
"""Protocols of a port-forward, which is passed on unread."""
SPDY_PROTOCOL, SPDY_FORWARD = "v4.channel.k8s.io", "portforward.k8s.io"
IN, OUT, ERR, OUTCOME, SIZE, CLOSE = 0, 1, 2, 3, 4, 255
_SMALL = 4096
_OUTCOME_LIMIT = 256 * 1024


def offered(header: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Those protocols of a Sec-WebSocket-Protocol header that are known here, the best first."""
    asked = {it.strip() for it in header.split(",")}
    return tuple(it for it in known if it in asked)


class Hearing:
    """Hears what an exec or attach says, in both directions, and tells the recording: `tell(event, text)`,
    with the events of proxy.recording.Screen. With a `terminal` what is typed is not kept: it holds
    passwords, and what may be seen is echoed. A message that has no meaning ends the connection: it must not
    pass unread.
    """

    def __init__(
        self, tell: Callable[[str, str], None], *, terminal: bool, hidden: tuple[str, ...] = ()
    ) -> None:
        self._tell = tell
        kept = None if terminal else KEPT
        self._streams = {
            IN: Stream("i", tell, 0 if terminal else KEPT, hidden, hashed=not terminal),
            OUT: Stream("o", tell, kept, hidden, hashed=not terminal),
            ERR: Stream("e", tell, kept, hidden, hashed=not terminal),
        }
        self._small: dict[bool, bytearray] = {True: bytearray(), False: bytearray()}
        self._over = False
        self.exit = ""

    # --- proxy.http.kinds.Tap

    def from_client(self, data: bytes) -> bytes:
        return self._heard(data, True)

    def from_target(self, data: bytes) -> bytes:
        return self._heard(data, False)

    def farewell(self, why: str) -> bytes:
        """Last words: on standard error, and as the command's outcome. None in the middle of something."""
        failure = {"metadata": {}, "status": "Failure", "reason": "Forbidden", "message": why, "code": 403}
        self._tell("n", why)
        return self._words(f"\r\n{why}\r\n".encode(), json.dumps(failure).encode(), why)

    def over(self) -> None:
        if self._over:
            return
        self._over = True
        names = {IN: "in", OUT: "out", ERR: "err"}
        ends = [f"{names[it]} {said}" for it, stream in self._streams.items() if (said := stream.end())]
        self._tell("x", "; ".join([self.exit or "unfinished", *ends]))

    # --- hearing

    def _heard(self, data: bytes, from_client: bool) -> bytes:
        try:
            self._listen(data, from_client)
        except frames.Broken as error:
            raise Blocked(f"the stream is not one that the gate reads: {error}") from error
        return data

    def _listen(self, data: bytes, from_client: bool) -> None:
        """Raises Broken."""
        raise NotImplementedError

    def _words(self, said: bytes, outcome: bytes, why: str) -> bytes:
        raise NotImplementedError

    def _channeled(self, channel: int, data: bytes, last: bool, from_client: bool) -> None:
        """A piece of what a channel says."""
        if channel in self._streams:
            if data:
                self._streams[channel].pass_on(data)
        else:
            self._gather(channel, data, last, from_client)

    def _gather(self, channel: int, data: bytes, last: bool, from_client: bool) -> None:
        held = self._small[from_client]
        held += data
        if len(held) > (_SMALL if from_client else _OUTCOME_LIMIT):
            raise frames.Broken("a message about the stream is too long")
        if not last:
            return
        whole = bytes(held)
        held.clear()
        if channel == SIZE:
            self._sized(whole)
        elif channel == OUTCOME:
            self.exit = outcome(whole)

    def _sized(self, raw: bytes) -> None:
        try:
            size = json.loads(raw.strip().rpartition(b"\n")[2])
            width, height = int(size["Width"]), int(size["Height"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise frames.Broken("a size that cannot be read") from error
        self._tell("r", f"{width}x{height}")


class Ear(Hearing):
    """Of a WebSocket."""

    def __init__(
        self, tell: Callable[[str, str], None], *, terminal: bool, hidden: tuple[str, ...] = ()
    ) -> None:
        super().__init__(tell, terminal=terminal, hidden=hidden)
        self._frames = {True: Frames(masked=True), False: Frames(masked=False)}
        self._channel: dict[bool, int | None] = {True: None, False: None}

    def _listen(self, data: bytes, from_client: bool) -> None:
        for piece in self._frames[from_client].feed(data):
            self._message(piece.data, piece.last, from_client)

    def _message(self, data: bytes, last: bool, from_client: bool) -> None:
        channel = self._channel[from_client]
        if channel is None:
            if not data:
                raise frames.Broken("a message without a channel")
            channel, data = data[0], data[1:]
            if channel not in ((IN, SIZE, CLOSE) if from_client else (OUT, ERR, OUTCOME, CLOSE)):
                raise frames.Broken(f"channel {channel} is not one that this side may use")
        self._channel[from_client] = None if last else channel
        self._channeled(channel, data, last, from_client)

    def _words(self, said: bytes, outcome: bytes, why: str) -> bytes:
        if not self._frames[False].between:
            return b""
        told = frames.message(bytes([ERR]) + said) + frames.message(bytes([OUTCOME]) + outcome)
        return told + frames.close(1008, why)


_TYPES = {"stdin": IN, "stdout": OUT, "stderr": ERR, "error": OUTCOME, "resize": SIZE}


class SpdyEar(Hearing):
    """Of a SPDY connection."""

    def __init__(
        self, tell: Callable[[str, str], None], *, terminal: bool, hidden: tuple[str, ...] = ()
    ) -> None:
        super().__init__(tell, terminal=terminal, hidden=hidden)
        self._frames = {it: SpdyFrames(from_client=it) for it in (True, False)}
        self._opened: dict[int, int] = {}

    def _listen(self, data: bytes, from_client: bool) -> None:
        for it in self._frames[from_client].feed(data):
            if isinstance(it, Opened):
                self._open(it)
                continue
            channel = self._opened.get(it.stream)
            if channel is None:
                raise frames.Broken("data of a stream that nobody opened")
            if not it.data and channel in self._streams:
                continue
            if channel not in ((IN, SIZE) if from_client else (OUT, ERR, OUTCOME)):
                if it.data:
                    raise frames.Broken("data in a stream's other direction")
                continue
            # Sizes stand one behind the other, the outcome ends with its stream.
            last = it.data.endswith(b"\n") if channel == SIZE else it.last
            self._channeled(channel, it.data, last and bool(it.data or channel == OUTCOME), from_client)

    def _open(self, it: Opened) -> None:
        channel = _TYPES.get(it.headers.get("streamtype", ""))
        if channel is None or it.stream in self._opened or channel in self._opened.values():
            raise frames.Broken("a stream of a kind that is not known, or that is there already")
        self._opened[it.stream] = channel

    def over(self) -> None:
        if not self.exit and (told := bytes(self._small[False])):
            self.exit = outcome(told)
        super().over()

    def _words(self, said: bytes, outcome: bytes, why: str) -> bytes:
        if not self._frames[False].between:
            return b""
        streams = {channel: stream for stream, channel in self._opened.items()}
        told = spdy.data(streams[ERR], said) if ERR in streams else b""
        return told + (spdy.data(streams[OUTCOME], outcome, last=True) if OUTCOME in streams else b"")


def outcome(raw: bytes) -> str:
    """How a command ended, in words: `exit 0`."""
    try:
        it: Any = json.loads(raw)
        if it.get("status") == "Success":
            return "exit 0"
        causes = (it.get("details") or {}).get("causes") or []
        code = next((c.get("message") for c in causes if c.get("reason") == "ExitCode"), None)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return "ended"
    return f"exit {str(code)[:8]}" if code is not None else "failed"
