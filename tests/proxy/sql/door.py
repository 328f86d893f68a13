"""A client's way through the reading code to a real PostgreSQL: what would come out of the gate's other
side."""

from __future__ import annotations

import base64
from struct import pack, unpack_from
from typing import Any

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from proxy.sql.copy import CopyStream, plan_copy
from proxy.sql.errors import scrub
from proxy.sql.guard import SessionNames, StatementVerdict, Verdict, read
from proxy.sql.mask import FieldDescription, plan_columns
from proxy.sql.masked import MaskSet, resolve
from proxy.sql.rows import rewrite_data_rows
from tests.proxy.sql.live import MASKS, load_catalog

KEY = b"a key of the resource"
_SALARIES = ("73194628", "91827364", "81726354", "62738495")
_SECRETS = (
    "zqxjkvwp",
    "bhunyjmk",
    "+1917364825",
    "+1528194637",
    "859-62-4173",
    "731-49-8265",
    "wqzjxkville",
    "ycmrtbgham",
    "plmvoknij",
    "qazwsxedc",
    "vfrtgbnhy",
    "mkoijnbhu",
    "gtrplkmwn",
)


def _pieces() -> set[bytes]:
    """Five letters of a masked value in a row are a leak, backwards, in hexadecimal and in base64 too."""
    found = {s.encode() for s in _SALARIES}
    for secret in _SECRETS:
        for form in (secret, secret[::-1]):
            found |= {form[i : i + 5].encode() for i in range(len(form) - 4)}
        found |= {secret[i : i + 4].encode().hex().encode() for i in range(len(secret) - 3)}
        found.add(base64.b64encode(secret[:6].encode())[:8].lower())
    return found


PIECES = _pieces()


def leaks(output: list[bytes]) -> set[bytes]:
    """The pieces of masked values in what the client got."""
    text = b"\n".join(output).lower()
    return {piece for piece in PIECES if piece in text}


class Door:
    """One session. `seen` collects every byte string that reached the client. `masks` are those of a session
    before, where nothing has changed since."""

    def __init__(self, conninfo: str, masks: MaskSet | None = None) -> None:
        self.catalog_connection = psycopg.connect(conninfo, autocommit=True)
        self.connection = psycopg.connect(conninfo, autocommit=True)
        self.wire: Any = self.connection.pgconn
        self.seen: list[bytes] = []
        self.names = SessionNames()
        self.scrubbing = False
        self.wrote = False
        self.wire.notice_handler = self._message
        if masks is None:
            self.refresh()
        else:
            self.masks = masks

    def close(self) -> None:
        self.connection.close()
        self.catalog_connection.close()

    def refresh(self) -> None:
        self.masks = resolve(load_catalog(self.catalog_connection), MASKS)

    def send(self, text: str) -> Verdict:
        """Run one text as far as the guard allows."""
        verdict = read(text, self.masks)
        if verdict.stale:
            self.refresh()
            verdict = read(text, self.masks)
        if not verdict.allowed:
            self.seen += [verdict.reason.encode(), verdict.hint.encode()]
            return verdict
        self.scrubbing = verdict.scrub_errors
        self.wrote = self.wrote or verdict.statement_class != "read" or verdict.changes_catalog
        self.wire.send_query(text.encode())
        self._results(list(verdict.statements))
        if verdict.changes_catalog:
            self.refresh()
        return verdict

    def _results(self, statements: list[StatementVerdict]) -> None:
        index = 0
        while (result := self.wire.get_result()) is not None:
            if result.status == ExecStatus.COPY_OUT:
                self._copy_out(result.nfields, statements[index])
                continue
            if result.status == ExecStatus.COPY_IN:
                self.wire.put_copy_end(b"no data")
                continue
            if result.status == ExecStatus.FATAL_ERROR:
                self._message(result)
                continue
            statement = statements[index] if index < len(statements) else None
            if result.status == ExecStatus.TUPLES_OK:
                self._rows(result, statement)
            if statement is not None:
                self.names.note(statement)
            index += 1
        self.wire.consume_input()
        while (notify := self.wire.notifies()) is not None:
            self.seen += [notify.relname, notify.extra]

    def _copy_out(self, width: int, statement: StatementVerdict) -> None:
        plan = plan_copy(statement, width, self.masks, KEY)
        stream = CopyStream(plan) if plan is not None else None
        while True:
            size, data = self.wire.get_copy_data(0)
            if size < 0:
                return
            row = bytes(data)
            if stream is not None:
                row = stream.rewrite(b"d" + pack(">I", len(row) + 4) + row)[5:]
            self.seen.append(row)

    def _message(self, result: Any) -> None:
        fields = {
            chr(field): text.decode()
            for field in DiagnosticField
            if (text := result.error_field(field)) is not None
        }
        self.seen += [text.encode() for text in (scrub(fields) if self.scrubbing else fields).values()]

    def _rows(self, result: Any, statement: StatementVerdict | None) -> None:
        fields = [
            FieldDescription(
                result.fname(i).decode(),
                result.ftable(i),
                result.ftablecol(i),
                result.ftype(i),
                result.fsize(i),
                result.fmod(i),
                result.fformat(i),
            )
            for i in range(result.nfields)
        ]
        known = self.names.resolve(statement) if statement is not None else None
        plan = plan_columns(fields, known, self.masks, KEY)
        rows = b"".join(
            data_row([result.get_value(r, c) for c in range(result.nfields)]) for r in range(result.ntuples)
        )
        for row in split_rows(rewrite_data_rows(rows, plan)):
            self.seen += [value for value in row if value is not None]
            self.seen.append(b"|")


def data_row(values: list[bytes | None]) -> bytes:
    """A DataRow message."""
    body = pack(">H", len(values))
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else pack(">i", len(value)) + value
    return b"D" + pack(">I", len(body) + 4) + body


def split_rows(data: bytes) -> list[list[bytes | None]]:
    """The values of a run of DataRow messages, read the slow and obvious way."""
    rows, place = [], 0
    while place < len(data):
        assert data[place : place + 1] == b"D"
        (length,) = unpack_from(">I", data, place + 1)
        (count,) = unpack_from(">H", data, place + 5)
        at, row = place + 7, []
        for _ in range(count):
            (size,) = unpack_from(">i", data, at)
            at += 4
            row.append(None if size < 0 else data[at : at + size])
            at += max(size, 0)
        assert at == place + 1 + length
        rows.append(row)
        place = at
    return rows
