"""A client of the gate's own: sends one approved command through it, as anybody's ssh would."""

from __future__ import annotations

import time
from dataclasses import dataclass

import asyncssh

from proxy.ssh import algorithms

_CHUNK = 64 * 1024


class NotIn(Exception):
    """The gate did not let the command in; nothing was sent. The text is for people."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the gate is, and the line of a known_hosts file that proves it."""

    host: str
    port: int
    known_hosts: str


@dataclass(frozen=True, slots=True)
class Output:
    """What came of a command: the beginning of its lines (`total` came), its exit, and what went wrong."""

    lines: tuple[str, ...]
    total: int
    exit: str
    seconds: float
    error: str = ""


async def run(gate: Gate, user: str, token: str, line: str, most_lines: int, most_bytes: int) -> Output:
    """Run `line` and take what it says, both streams as one. Raises NotIn."""
    try:
        connection = await asyncssh.connect(
            gate.host,
            gate.port,
            username=user,
            password=token,
            preferred_auth="password",
            client_keys=None,
            agent_path=None,
            config=None,
            known_hosts=asyncssh.import_known_hosts(gate.known_hosts),
            kex_algs=algorithms.KEX,
            encryption_algs=algorithms.CIPHERS,
            mac_algs=algorithms.MACS,
        )
    except asyncssh.DisconnectError as error:
        raise NotIn(error.reason) from error
    except (OSError, asyncssh.Error) as error:
        raise NotIn(f"the gate cannot be reached ({type(error).__name__})") from error
    began = time.monotonic()
    async with connection:
        try:
            process = await connection.create_process(line, encoding=None, stderr=asyncssh.STDOUT)
            kept, size = bytearray(), 0
            lines = 0
            while data := await process.stdout.read(_CHUNK):
                size += len(data)
                lines += data.count(b"\n")
                kept += data[: max(0, most_bytes - len(kept))]
            await process.wait_closed()
        except (OSError, asyncssh.Error) as error:
            reason = error.reason if isinstance(error, asyncssh.Error) else "the connection broke off"
            return Output((), 0, "", time.monotonic() - began, reason)
    text = bytes(kept).decode("utf-8", "replace").splitlines()
    code = process.returncode
    ended = "no exit status" if code is None else f"exit {code}" if code >= 0 else f"signal {-code}"
    return Output(tuple(text[:most_lines]), max(lines, len(text)), ended, time.monotonic() - began)
