"""SPDY/3.1 frames as they pass, as exec and attach had them before WebSocket, in constant memory.

Only what clients of Kubernetes use of it is let through: streams that the client opens, their data, and
frames about the connection that say nothing of what it carries. Source: the SPDY protocol, draft 3.1,
sections 2.2 and 2.6, as github.com/moby/spdystream reads it for Kubernetes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.http.frames import Broken

_NAMES = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-"
    "ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-la"
    "nguage|content-length|content-location|content-md5|content-range|content-type|date|etag|expect|e"
    "xpires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modi"
    "fied|location|max-forwards|pragma|proxy-authenticate|proxy-authorization|range|referer|retry-aft"
    "er|server|te|trailer|transfer-encoding|upgrade|user-agent|vary|via|warning|www-authenticate|meth"
    "od|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|keep-alive|origin"
)
_VALUES = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 No"
    "n-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403"
    " Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Fe"
    "b Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunke"
    "d,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/"
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(it)) + it.encode() for it in _NAMES.split("|")) + _VALUES.encode()
"""What both sides begin their compression of headers with (section 2.6.10.1)."""

_SYN_STREAM, _SYN_REPLY, _HEADERS = 1, 2, 8
_ABOUT = (3, 4, 6, 7, 9)
"""Resets, settings, pings, goodbyes and windows."""
_FIN = 1
_HEAD = 8
_CONTROL_LIMIT = 16 * 1024
_HEADERS_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream that the client opens, with its header fields."""

    stream: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream; `last` is its end in this direction."""

    stream: int
    data: bytes
    last: bool


class SpdyFrames:
    """One direction."""

    def __init__(self, *, from_client: bool) -> None:
        self._from_client = from_client
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)
        self._head = bytearray()
        self._control: bytearray | None = None
        self._left = 0
        self._stream = 0
        self._last = False

    @property
    def between(self) -> bool:
        """Whether a frame may stand here."""
        return not self._left and not self._head and self._control is None

    def feed(self, data: bytes) -> Iterator[Opened | Data]:
        """What is said in `data`. Raises Broken."""
        at = 0
        while at < len(data):
            if len(self._head) < _HEAD:
                piece = data[at : at + _HEAD - len(self._head)]
                self._head += piece
                at += len(piece)
                if len(self._head) < _HEAD:
                    return
                self._begin()
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._control is not None:
                self._control += piece
                if not self._left:
                    yield from self._controlled(bytes(self._head), bytes(self._control))
            elif piece or not self._left:
                yield Data(self._stream, piece, self._last and not self._left)
            if not self._left:
                self._head.clear()
                self._control = None

    def _begin(self) -> None:
        first, flags_and_length = struct.unpack("!II", self._head)
        self._left = flags_and_length & 0xFFFFFF
        if first & 0x80000000:
            if (first >> 16) & 0x7FFF != 3:
                raise Broken("a frame of another version of SPDY")
            if self._left > _CONTROL_LIMIT:
                raise Broken("a frame about the connection that is too long")
            self._control = bytearray()
        else:
            self._stream, self._last = first, bool((flags_and_length >> 24) & _FIN)

    def _controlled(self, head: bytes, body: bytes) -> Iterator[Opened]:
        kind, flags = struct.unpack("!H", head[2:4])[0], head[4]
        if kind == _SYN_STREAM and self._from_client:
            if flags or len(body) < 10:
                raise Broken("a stream that is not opened as one")
            yield Opened(struct.unpack_from("!I", body)[0] & 0x7FFFFFFF, self._headers(body[10:]))
        elif kind in (_SYN_STREAM, _HEADERS) or (kind == _SYN_REPLY and self._from_client):
            raise Broken("a frame that this side does not send")
        elif kind != _SYN_REPLY and kind not in _ABOUT:
            raise Broken("a frame of a kind that is not known")

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._zlib.decompress(block, _HEADERS_LIMIT)
            if self._zlib.unconsumed_tail or self._zlib.eof:
                raise Broken("header fields that are too long")
            return _fields(plain)
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise Broken("header fields that cannot be read") from error


def _fields(plain: bytes) -> dict[str, str]:
    (count,), at = struct.unpack_from("!I", plain), 4
    found: dict[str, str] = {}
    for _ in range(count):
        pair = []
        for _ in range(2):
            (size,) = struct.unpack_from("!I", plain, at)
            text = plain[at + 4 : at + 4 + size]
            if len(text) != size or b"\0" in text:
                raise Broken("header fields that are not written as such")
            pair.append(text.decode("ascii"))
            at += 4 + size
        name, value = pair
        if name in found or name != name.lower():
            raise Broken("a header field that is there twice, or not in small letters")
        found[name] = value
    if at != len(plain):
        raise Broken("something behind the header fields")
    return found


def data(stream: int, content: bytes, *, last: bool = False) -> bytes:
    """A frame of a stream's data."""
    return struct.pack("!II", stream, (_FIN << 24 if last else 0) | len(content)) + content
