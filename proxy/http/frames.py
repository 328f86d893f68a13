"""WebSocket frames as they pass (RFC 6455, section 5): what is in them, piece by piece, in constant memory.

Nothing is changed on the way, so both sides keep what they agreed on; extensions are not agreed on through
here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_CONTROL_LIMIT = 125
_HEAD = 14
"""Bytes of the longest head of a frame."""


class Broken(ValueError):
    """A frame that is not of this protocol. The text is for people."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a message: `last` is the message's end, `text` tells that it is one."""

    data: bytes
    last: bool
    text: bool = False


class Frames:
    """One direction. A client's frames are `masked`, a server's are not. `texts` may come beside binary
    messages.
    """

    def __init__(self, *, masked: bool, texts: bool = False) -> None:
        self._masked = masked
        self._texts = texts
        self._text = False
        self._head = bytearray()
        self._left = 0
        self._mask = b""
        self._at = 0
        self._opcode = 0
        self._final = False
        self._inside = False

    @property
    def between(self) -> bool:
        """Whether a frame of another message may stand here."""
        return not self._left and not self._head and not self._inside

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces of messages in `data`. Raises Broken."""
        at = 0
        while at < len(data):
            if not self._left:
                took, ready = self._take_head(data[at : at + _HEAD])
                at += took
                if not ready:
                    return
                if not self._left:
                    yield from self._piece(b"")
                continue
            raw = data[at : at + self._left]
            at += len(raw)
            self._left -= len(raw)
            yield from self._piece(self._plain(raw))

    def _take_head(self, data: bytes) -> tuple[int, bool]:
        """How many of the bytes belong to a head, and whether that is whole now."""
        before = len(self._head)
        self._head += data
        size = _head_size(self._head)
        if size is None or len(self._head) < size:
            return len(data), False
        head = bytes(self._head[:size])
        self._head.clear()
        self._begin(head)
        return size - before, True

    def _begin(self, head: bytes) -> None:
        first, second = head[0], head[1]
        opcode, length = first & 0x0F, second & 0x7F
        if first & 0x70:
            raise Broken("a frame with an extension that nobody agreed on")
        if bool(second & 0x80) is not self._masked:
            raise Broken("a frame that is masked where it may not be, or not where it must be")
        at = 2
        if length == 126:
            (length,) = struct.unpack_from("!H", head, 2)
            at = 4
        elif length == 127:
            (length,) = struct.unpack_from("!Q", head, 2)
            at = 10
        self._mask = head[at : at + 4] if self._masked else b""
        self._at = 0
        self._left = length
        self._opcode, self._final = opcode, bool(first & 0x80)
        self._check(length)

    def _check(self, length: int) -> None:
        if self._opcode in (CLOSE, PING, PONG):
            if length > _CONTROL_LIMIT or not self._final:
                raise Broken("a control frame that is too long or in parts")
        elif self._opcode == CONTINUATION:
            if not self._inside:
                raise Broken("a message that goes on without having begun")
        elif self._opcode == BINARY or (self._opcode == TEXT and self._texts):
            if self._inside:
                raise Broken("a message inside another")
            self._inside, self._text = True, self._opcode == TEXT
        else:
            raise Broken("a message of a kind that has no place here")

    def _piece(self, plain: bytes) -> Iterator[Piece]:
        if self._opcode in (CLOSE, PING, PONG):
            return
        last = self._final and not self._left
        if last:
            self._inside = False
        if plain or last:
            yield Piece(plain, last, self._text)

    def _plain(self, raw: bytes) -> bytes:
        if not self._mask:
            return raw
        turn = self._at % 4
        self._at += len(raw)
        key = ((self._mask[turn:] + self._mask[:turn]) * (len(raw) // 4 + 1))[: len(raw)]
        return (int.from_bytes(raw, "big") ^ int.from_bytes(key, "big")).to_bytes(len(raw), "big")


def _head_size(head: bytes | bytearray) -> int | None:
    """The size of the head that begins here; None while that cannot be told."""
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if head[1] & 0x80 else 0)


def message(data: bytes) -> bytes:
    """A binary message of a server's, in one frame."""
    return _frame(BINARY, data)


def close(code: int, why: str) -> bytes:
    """A server's close, with its reason cut to what fits."""
    reason = why.encode()[: _CONTROL_LIMIT - 2].decode("utf-8", "ignore").encode()
    return _frame(CLOSE, struct.pack("!H", code) + reason)


def _frame(opcode: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + data
