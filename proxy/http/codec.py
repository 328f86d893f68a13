"""HTTP/1.1 heads, from bytes and to bytes (RFC 9112): what two readers may read differently is refused.

There is no lenient mode, no repair and no guess: folded lines, bare line feeds, white space before a colon,
more than one length or a length beside chunks are malformed, on both of the gate's sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

Header = tuple[bytes, bytes]
"""A field's name, in lower case, and its value without the white space around it."""

MAX_HEAD = 64 * 1024
"""Bytes of a head, of a request or of an answer."""
MAX_FIELDS = 200

_REQUEST = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~]{1,16384}) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_FIELDS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_NO_BODY = frozenset({204, 304})


class Malformed(Exception):
    """A message that is not HTTP as this gate reads it. `status` answers a client; the text is for people."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


@dataclass(slots=True)
class Head:
    """What requests and answers share. `minor` is the 1 of HTTP/1.1; `length` None and not `chunked`: no
    body for a request, a body up to the end of the connection for an answer.
    """

    minor: int
    headers: list[Header]
    length: int | None = None
    chunked: bool = False

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of this name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: bytes) -> list[bytes]:
        """The members of a list field, in lower case (RFC 9110, section 5.6.1)."""
        values = self.all(name)
        if not values:
            return values
        found = b",".join(values)
        return [part.strip(b" \t").lower() for part in found.split(b",") if part.strip(b" \t")]

    @property
    def keep_alive(self) -> bool:
        return self.minor == 1 and b"close" not in self.tokens(b"connection")


@dataclass(slots=True)
class RequestHead(Head):
    method: str = ""
    target: bytes = b""
    host: bytes = field(default=b"")

    @property
    def upgrade(self) -> bytes:
        """The protocol that the client wishes to change to, if it does so properly."""
        protocol = self.get(b"upgrade")
        if protocol is None or b"upgrade" not in self.tokens(b"connection"):
            return b""
        return protocol.lower()


@dataclass(slots=True)
class ResponseHead(Head):
    status: int = 0
    reason: bytes = b""

    def has_body(self, method: str) -> bool:
        return not (method == "HEAD" or self.status < 200 or self.status in _NO_BODY)


def head_end(data: bytes | bytearray) -> int:
    """Where the head in `data` ends, behind its empty line; -1 while that has not come. Raises Malformed."""
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        if end > MAX_HEAD:
            raise Malformed("the head is too long", 431)
        return end + 4
    if len(data) > MAX_HEAD:
        raise Malformed("the head is too long", 431)
    if b"\n\n" in data or data[:1] in (b"\r", b"\n"):
        raise Malformed("lines end with a carriage return and a line feed")
    return -1


def read_request(block: bytes) -> RequestHead:
    """The head of a request, with its empty line. Raises Malformed."""
    first, _, rest = block.partition(b"\r\n")
    line = _REQUEST.fullmatch(first)
    if line is None:
        raise Malformed("the first line is no request of HTTP/1.1")
    head = RequestHead(int(line[3]), _fields(rest), method=line[1].decode(), target=line[2])
    hosts = head.all(b"host")
    if len(hosts) != 1:
        raise Malformed("a request names its host, once")
    head.host = hosts[0]
    _frame(head)
    if head.chunked and head.minor == 0:
        raise Malformed("chunks came with HTTP/1.0, which has none")
    return head


def read_response(block: bytes) -> ResponseHead:
    """The head of an answer, with its empty line. Raises Malformed."""
    first, _, rest = block.partition(b"\r\n")
    line = _STATUS.fullmatch(first)
    if line is None:
        raise Malformed("the first line is no answer of HTTP/1.1")
    head = ResponseHead(int(line[1]), _fields(rest), status=int(line[2]), reason=line[3] or b"")
    _frame(head)
    return head


def _fields(block: bytes) -> list[Header]:
    """The fields of a head, from behind its first line to its empty line."""
    if _FIELDS.fullmatch(block, 0, len(block) - 2) is None:
        raise Malformed("a header field is not written as one")
    lines = block[:-4].split(b"\r\n") if len(block) > 2 else []
    if len(lines) > MAX_FIELDS:
        raise Malformed("there are too many header fields", 431)
    found = []
    for text in lines:
        name, _, value = text.partition(b":")
        found.append((name.lower(), value.strip(b" \t")))
    return found


def _frame(head: Head) -> None:
    """How the body is delimited, where that can be said in one way only (RFC 9112, section 6.3)."""
    lengths, codings = 0, 0
    for name, value in head.headers:
        if name == b"content-length":
            lengths += 1
            if _LENGTH.fullmatch(value) is None:
                raise Malformed("Content-Length is no number")
            head.length = int(value)
        elif name == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked":
                raise Malformed("the only transfer coding is chunked", 501)
            head.chunked = True
    if lengths + codings > 1:
        raise Malformed("the length of the body is said more than once")


def request(method: str, target: bytes, headers: Iterable[Header]) -> bytes:
    """The head of a request to a target."""
    lines = [b"%b %b HTTP/1.1" % (method.encode(), target)]
    lines += [b"%b: %b" % header for header in headers]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def response(status: int, reason: bytes, headers: Iterable[Header]) -> bytes:
    """The head of an answer to a client."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    lines += [b"%b: %b" % header for header in headers]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def reason_of(status: int) -> bytes:
    """The usual words of a status."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
