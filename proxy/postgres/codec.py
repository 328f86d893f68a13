"""PostgreSQL's wire format, version 3: bytes to messages and back, without I/O.

Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol", sections "Message Formats" and
"Error and Notice Message Fields". Texts are kept as bytes where the wire keeps them as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

MAX_STARTUP = 10_000
"""Bytes in a startup packet; the server's own bound (MAX_STARTUP_PACKET_LENGTH)."""

_HEAD = struct.Struct("!cI")
_INT = struct.Struct("!I")
_SHORT = struct.Struct("!H")
_COLUMN = struct.Struct("!IhIhih")


class WireError(Exception):
    """The peer broke the protocol; the connection cannot go on."""


BROKEN = (WireError, IndexError, struct.error)
"""What reading a message that is cut short or malformed may raise."""


@dataclass(frozen=True, slots=True)
class Startup:
    """A client's first words: the minor version it asks for and its parameters (user, database, …)."""

    version: int
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request to cancel what runs under `pid`, proved by `secret` (4 bytes in 3.0, up to 256 in 3.2)."""

    pid: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a RowDescription. `table` and `attribute` are 0 where the value is no plain column."""

    name: bytes
    table: int
    attribute: int
    type: int
    size: int
    modifier: int
    format: int


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One tagged message: type byte, length (itself included), body."""
    return _HEAD.pack(kind, len(body) + 4) + body


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole messages in `data`, as (type, body). Raises WireError when the end is not a message's end."""
    at = 0
    while at < len(data):
        if len(data) - at < 5:
            raise WireError("a message header is cut short")
        end = at + 1 + frame_length(data, at)
        if end > len(data):
            raise WireError("a message body is cut short")
        yield data[at], data[at + 5 : end]
        at = end


def frame_length(data: bytes, at: int) -> int:
    """The length field of the message that starts at `at`. Raises WireError below the least possible, 4."""
    length: int = _INT.unpack_from(data, at + 1)[0]
    if length < 4:
        raise WireError("a message length is below four")
    return length


def cstring(data: bytes, at: int) -> tuple[bytes, int]:
    """The NUL-ended string at `at` and the offset behind it. Raises WireError when no NUL follows."""
    end = data.find(b"\0", at)
    if end < 0:
        raise WireError("a string has no end")
    return data[at:end], end + 1


# --- before the session: untagged packets ---------------------------------------------------------------


def untagged(code: int, body: bytes = b"") -> bytes:
    return _INT.pack(len(body) + 8) + _INT.pack(code) + body


def startup(parameters: Mapping[str, str], version: int = PROTOCOL_3_0) -> bytes:
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    return untagged(version, pairs + b"\0")


def cancel_request(pid: int, secret: bytes) -> bytes:
    return untagged(CANCEL_REQUEST, _INT.pack(pid) + secret)


def read_startup(packet: bytes) -> Startup:
    """Read the packet behind its length. Raises WireError for another protocol or broken parameters."""
    if len(packet) < 4:
        raise WireError("the startup packet is too short")
    version: int = _INT.unpack_from(packet)[0]
    if version >> 16 != 3:
        raise WireError(f"protocol {version >> 16}.{version & 0xFFFF} is not spoken here, only 3.0 to 3.2")
    at, parameters = 4, {}
    while True:
        name, at = cstring(packet, at)
        if not name:
            break
        value, at = cstring(packet, at)
        try:
            parameters[name.decode()] = value.decode()
        except UnicodeDecodeError as error:
            raise WireError("a startup parameter is not UTF-8") from error
    if at != len(packet):
        raise WireError("bytes follow the startup packet's end")
    return Startup(version, parameters)


def read_cancel(packet: bytes) -> Cancel:
    """Read a CancelRequest behind its length and code."""
    if not 12 <= len(packet) <= 264:
        raise WireError("the cancel request has a wrong size")
    return Cancel(_INT.unpack_from(packet, 4)[0], packet[8:])


def negotiate_version(asked: int, unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: we speak 3.2 at most, and do not know these `_pq_.` options."""
    names = b"".join(name.encode() + b"\0" for name in unknown)
    return message(b"v", _INT.pack(min(asked, PROTOCOL_3_2)) + _INT.pack(len(unknown)) + names)


# --- errors and notices ----------------------------------------------------------------------------------


def error(
    severity: str, code: str, text: str, *, detail: str = "", hint: str = "", position: int = 0
) -> bytes:
    """An ErrorResponse. `code` is the SQLSTATE; NUL bytes, which the wire cannot carry, are dropped."""
    fields = {b"S": severity, b"V": severity, b"C": code, b"M": text, b"D": detail, b"H": hint}
    fields[b"P"] = str(position) if position else ""
    return report(b"E", {key: value.replace("\0", "").encode() for key, value in fields.items() if value})


def report(kind: bytes, fields: Mapping[bytes, bytes]) -> bytes:
    """An ErrorResponse (`E`) or NoticeResponse (`N`) from its fields."""
    return message(kind, b"".join(key + value + b"\0" for key, value in fields.items()) + b"\0")


def read_report(body: bytes) -> dict[bytes, bytes]:
    """The fields of an ErrorResponse or NoticeResponse by their one-byte keys."""
    fields: dict[bytes, bytes] = {}
    at = 0
    while True:
        text, at = cstring(body, at)
        if not text:
            return fields
        fields[text[:1]] = text[1:]


# --- results ---------------------------------------------------------------------------------------------


def read_row_description(body: bytes) -> tuple[Column, ...]:
    """The columns of a RowDescription. Raises WireError when it is cut short or too long."""
    try:
        (count,) = _SHORT.unpack_from(body)
        columns, at = [], 2
        for _ in range(count):
            name, at = cstring(body, at)
            columns.append(Column(name, *_COLUMN.unpack_from(body, at)))
            at += _COLUMN.size
    except struct.error as broken:
        raise WireError("a row description is cut short") from broken
    if at != len(body):
        raise WireError("bytes follow a row description's end")
    return tuple(columns)


def row_description(columns: Sequence[Column]) -> bytes:
    body = b"".join(
        c.name + b"\0" + _COLUMN.pack(c.table, c.attribute, c.type, c.size, c.modifier, c.format)
        for c in columns
    )
    return message(b"T", _SHORT.pack(len(columns)) + body)


def read_parameter_description(body: bytes) -> tuple[int, ...]:
    """The type OIDs of a ParameterDescription."""
    try:
        (count,) = _SHORT.unpack_from(body)
        return struct.unpack(f"!{count}I", body[2:])
    except struct.error as broken:
        raise WireError("a parameter description has a wrong size") from broken


def data_row(values: Sequence[bytes | None]) -> bytes:
    cells = b"".join(_INT.pack(0xFFFFFFFF) if v is None else _INT.pack(len(v)) + v for v in values)
    return message(b"D", _SHORT.pack(len(values)) + cells)


def read_data_row(body: bytes) -> tuple[bytes | None, ...]:
    """The values of a DataRow; None is NULL."""
    values, at = _read_values(body, 0)
    if at != len(body):
        raise WireError("bytes follow a data row's end")
    return values


def _read_values(body: bytes, at: int) -> tuple[tuple[bytes | None, ...], int]:
    try:
        (count,) = _SHORT.unpack_from(body, at)
        at += 2
        values: list[bytes | None] = []
        for _ in range(count):
            (size,) = _INT.unpack_from(body, at)
            at += 4
            if size == 0xFFFFFFFF:
                values.append(None)
                continue
            if at + size > len(body):
                raise WireError("a value is cut short")
            values.append(body[at : at + size])
            at += size
    except struct.error as broken:
        raise WireError("values are cut short") from broken
    return tuple(values), at


# --- the extended protocol, from the client ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bind:
    """A portal made from a prepared statement with values. Formats: 0 text, 1 binary; () means all text."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]

    def format(self, index: int) -> int:
        """The format of value `index`; one format stands for all."""
        if not self.formats:
            return 0
        return self.formats[0 if len(self.formats) == 1 else index]


def bind(it: Bind) -> bytes:
    cells = b"".join(_INT.pack(0xFFFFFFFF) if v is None else _INT.pack(len(v)) + v for v in it.values)
    formats, results = it.formats, it.result_formats
    return message(
        b"B",
        it.portal
        + b"\0"
        + it.statement
        + b"\0"
        + struct.pack(f"!H{len(formats)}H", len(formats), *formats)
        + _SHORT.pack(len(it.values))
        + cells
        + struct.pack(f"!H{len(results)}H", len(results), *results),
    )


def read_bind(body: bytes) -> Bind:
    """Read a Bind's body. Raises WireError where the server would call it malformed."""
    portal, at = cstring(body, 0)
    statement, at = cstring(body, at)
    formats, values, at = read_bound(body, at)
    results, at = _read_formats(body, at)
    if at != len(body):
        raise WireError("bytes follow a Bind's end")
    return Bind(portal, statement, formats, values, results)


def read_bound(body: bytes, at: int) -> tuple[tuple[int, ...], tuple[bytes | None, ...], int]:
    """A Bind's formats and values behind its two names, at `at`, and the offset behind them."""
    formats, at = _read_formats(body, at)
    values, at = _read_values(body, at)
    if len(formats) > 1 and len(formats) != len(values):
        raise WireError("a Bind has another number of formats than of values")
    return formats, values, at


def _read_formats(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    if body[at : at + 2] == b"\0\0":
        return (), at + 2
    try:
        (count,) = _SHORT.unpack_from(body, at)
        return struct.unpack_from(f"!{count}H", body, at + 2), at + 2 + 2 * count
    except struct.error as broken:
        raise WireError("format codes are cut short") from broken


def parse(name: bytes, text: bytes, types: Sequence[int] = ()) -> bytes:
    return message(b"P", name + b"\0" + text + b"\0" + struct.pack(f"!H{len(types)}I", len(types), *types))


def query(text: bytes) -> bytes:
    return message(b"Q", text + b"\0")


def describe_portal(name: bytes) -> bytes:
    return message(b"D", b"P" + name + b"\0")


@lru_cache(maxsize=1024)
def command_rows(tag: bytes) -> int:
    """The rows that a CommandComplete tag counts: `SELECT 5` and `INSERT 0 5` say 5, `BEGIN` says 0."""
    last = tag[tag.rfind(b" ") + 1 :]
    return int(last) if last.isdigit() else 0
