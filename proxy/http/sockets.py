"""The messages of a WebSocket, as they go into the recording."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from proxy.http import frames
from proxy.http.frames import Frames, Piece
from proxy.http.kinds import Blocked
from proxy.http.tape import hidden_text

_KEPT = 16 * 1024
"""Bytes that are kept of each text."""
_ALL = 4 << 20
"""Bytes that are kept of all texts of one direction."""


class _Way:
    """One direction: its frames, and the message that is passing."""

    def __init__(self, event: str, tell: Callable[[str, str], None], *, masked: bool) -> None:
        self.frames = Frames(masked=masked, texts=True)
        self._event = event
        self._tell = tell
        self._left = _ALL
        self._kept = bytearray()
        self._size = 0
        self._sha256 = hashlib.sha256()

    def take(self, piece: Piece) -> None:
        self._size += len(piece.data)
        self._sha256.update(piece.data)
        if piece.text:
            room = min(_KEPT - len(self._kept), self._left)
            self._kept += piece.data[:room]
            self._left -= min(room, len(piece.data))
        if piece.last:
            self._tell(self._event, self._told(piece.text))
            self._kept, self._size, self._sha256 = bytearray(), 0, hashlib.sha256()

    def _told(self, text: bool) -> str:
        if text and len(self._kept) == self._size:
            return hidden_text(self._kept.decode("utf-8", "replace"))
        shown = hidden_text(self._kept.decode("utf-8", "replace")) + "… " if self._kept else ""
        return f"{shown}({self._size} bytes, SHA-256 {self._sha256.hexdigest()})"


class SocketTape:
    """A Tap. `tell(event, text)` is told each message: i from the client, o from the service. Of texts their
    beginning is kept, of others their size and hash. What is no WebSocket ends the connection.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._client = _Way("i", tell, masked=True)
        self._target = _Way("o", tell, masked=False)

    def from_client(self, data: bytes) -> bytes:
        return self._pass(data, self._client)

    def from_target(self, data: bytes) -> bytes:
        return self._pass(data, self._target)

    def farewell(self, why: str) -> bytes:
        self._tell("n", why)
        return frames.close(1008, why) if self._target.frames.between else b""

    def over(self) -> None:
        self._tell("x", "closed")

    @staticmethod
    def _pass(data: bytes, way: _Way) -> bytes:
        try:
            for piece in way.frames.feed(data):
                way.take(piece)
        except frames.Broken as error:
            raise Blocked(f"the WebSocket cannot be recorded: {error}") from error
        return data
