"""Bodies: where they end, and how they are sent on (RFC 9112, sections 6 and 7). Constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from proxy.http.codec import Header, Malformed

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t -~]*)?\r\n")
_TRAILER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)\r\n")
_LINE = 4096
"""Bytes of one line between chunks, or of one trailer field."""
_TRAILERS = 64


class Reader(Protocol):
    """Takes a body out of the bytes of a connection."""

    trailers: list[Header]

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What of `data` is body, and what comes behind the body: None while that is not over. Raises
        Malformed.
        """
        ...

    def closed(self) -> bool:
        """Whether the body is whole where the connection ends here."""
        ...


class Sized:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.trailers: list[Header] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, None
        self._left = 0
        return (data, b"") if left == 0 else (data[:left], data[left:])

    def closed(self) -> bool:
        return self._left == 0


class UntilClose:
    """A body that ends with the connection, as an answer's may."""

    def __init__(self) -> None:
        self.trailers: list[Header] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        return data, None

    def closed(self) -> bool:
        return True


class Chunked:
    """A body in chunks. Extensions of chunks mean nothing to anybody and are left out."""

    def __init__(self) -> None:
        self.trailers: list[Header] = []
        self._left = 0
        self._line = bytearray()
        self._step = self._size
        self._over = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        parts: list[bytes] = []
        at, size = 0, len(data)
        while True:
            if self._left:
                piece = data[at : at + self._left]
                parts.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or size]
            if len(self._line) > _LINE:
                raise Malformed("a line between chunks is too long")
            if not end:
                break
            at = end
            line = bytes(self._line)
            self._line.clear()
            self._step(line)
            if self._over:
                return b"".join(parts), data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts), None

    def closed(self) -> bool:
        return self._over

    def _size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise Malformed("a chunk does not begin with its size")
        self._left = int(found[1], 16)
        self._step = self._behind if self._left else self._trailer

    def _behind(self, line: bytes) -> None:
        if line != b"\r\n":
            raise Malformed("a chunk is longer than its size")
        self._step = self._size

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._over = True
            return
        found = _TRAILER.fullmatch(line)
        if found is None or len(self.trailers) >= _TRAILERS:
            raise Malformed("a trailer field is not written as one")
        self.trailers.append((found[1].lower(), found[2].strip(b" \t")))


def chunk(data: bytes) -> bytes:
    """`data`, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Iterable[Header] = ()) -> bytes:
    """The end of a body in chunks."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % header for header in trailers) + b"\r\n"
