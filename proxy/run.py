"""One statement sent through a gate by a client of our own, and what came back, within bounds.

It enters as any client does, over verified TLS with a password: the same path, masks and recording.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from proxy.authority import Upstream
from proxy.postgres import codec, target
from proxy.postgres.auth import LoginError
from proxy.postgres.wire import Greeter, Lost

_LIMIT = 64 << 20
_COPY_FAIL = codec.message(b"f", b"no data comes with a submitted statement\0")

__all__ = ["LoginError", "Outcome", "send"]


@dataclass(slots=True)
class Outcome:
    """What came back: the last result's columns and the beginning of its rows, of which there were `total`;
    the command tags; the error, where there was one, in the words of gate or target.
    """

    columns: tuple[str, ...] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    total: int = 0
    tags: list[str] = field(default_factory=list)
    seconds: float = 0.0
    sqlstate: str = ""
    error: str = ""
    hint: str = ""


async def send(gate: Upstream, text: str, *, most_rows: int, most_bytes: int) -> Outcome:
    """Log in at the gate, run the text, and leave. `gate` is the gate's address, and the user and password to
    enter with.

    Raises LoginError where it was not let in, so that nothing was sent; whatever happens later is an error in
    the outcome.
    """
    entered = await target.connect(gate, {"client_encoding": "UTF8", "application_name": "access run"})
    began = time.monotonic()
    outcome = Outcome()
    try:
        entered.greeter.write(codec.query(text.encode()))
        await _read(entered.greeter, outcome, most_rows, most_bytes)
        entered.close()
    except (Lost, codec.WireError, OSError):
        if not outcome.error:
            outcome.error = "The gate closed the connection before it was over."
    finally:
        entered.greeter.abort()
    outcome.seconds = time.monotonic() - began
    return outcome


async def _read(greeter: Greeter, outcome: Outcome, most_rows: int, most_bytes: int) -> None:
    left = most_bytes
    while True:
        kind, body = await greeter.message(_LIMIT)
        match kind:
            case b"Z":
                return
            case b"T":
                outcome.columns = tuple(
                    _text(column.name) or "" for column in codec.read_row_description(body)
                )
                outcome.rows, outcome.total = [], 0
            case b"D" | b"d":
                outcome.total += 1
                left -= len(body)
                if len(outcome.rows) < most_rows and left >= 0:
                    outcome.rows.append(_row(kind, body))
            case b"C":
                outcome.tags.append(_text(body[:-1]) or "")
            case b"H":
                outcome.columns, outcome.rows, outcome.total = ("copy",), [], 0
            case b"G":
                greeter.write(_COPY_FAIL)
            case b"E":
                fields = codec.read_report(body)
                outcome.sqlstate = _text(fields.get(b"C", b"")) or ""
                parts = [_text(fields.get(key, b"")) or "" for key in (b"M", b"D")]
                outcome.error = ". ".join(part for part in parts if part)
                outcome.hint = _text(fields.get(b"H", b"")) or ""


def _row(kind: bytes, body: bytes) -> tuple[str | None, ...]:
    if kind == b"d":
        return (_text(body.rstrip(b"\n")),)
    return tuple(_text(value) for value in codec.read_data_row(body))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
