"""One gate worker process: `python -m cli.gate_worker`, started by cli/gates.py and by nobody else.

Its orders come as one line of JSON on standard input. When that input ends, because the parent says so or is
no more, the worker cuts its sessions and ends too. It writes one line when it listens.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import uvloop

from broker import logs
from cli.gates import WorkerOrder
from proxy import tls
from proxy.gate import Gate, GateSettings
from proxy.identity import GateIdentity
from proxy.remote import RemoteAuthority

_CANCEL = struct.Struct("!I")
_NUMBER = struct.Struct("!Q")
_MOST = 1 << 64


def main() -> None:
    # Ctrl-C goes to the whole process group; the parent tells us when it is our turn.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = WorkerOrder(**json.loads(sys.stdin.buffer.readline()))
    logs.configure(order.log_level)
    uvloop.run(work(order))


async def work(order: WorkerOrder) -> None:
    """Serve until standard input ends or SIGTERM comes."""
    hub = Hub(Path(order.hub), order.worker)
    async with _broker(order) as authority:
        settings = GateSettings(
            name=f"{order.name}/{order.worker}",
            recordings=Path(order.recordings),
            tls=tls.server_context(Path(order.certificate), Path(order.key)),
            end_point=tls.end_point(Path(order.certificate)),
            login=order.login,
            certificates=order.certificates,
            host=order.host,
            port=order.port,
            reuse_port=True,
            worker=order.worker,
            cancel_elsewhere=hub.send,
            ssh=order.ssh,
            http=order.http,
        )
        # A broker behind a Unix socket reads the recordings from the same disk.
        ship = None if order.broker_socket else partial(authority.ship, settings.name)
        gate = Gate(authority, settings, ship=ship)
        await gate.start()
        hub.listen(gate)
        gc.collect()
        gc.freeze()  # no later collection looks at what the start left behind, and stops sessions meanwhile
        print("listening", flush=True)
        try:
            await _end()
        finally:
            await gate.stop()
            hub.close()


def _broker(order: WorkerOrder) -> RemoteAuthority:
    if order.identity:
        return RemoteAuthority(identity=GateIdentity(Path(order.identity)))
    return RemoteAuthority("http://broker", order.token, socket=Path(order.broker_socket))


async def _end() -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    parent = asyncio.create_task(reader.read())
    ended = asyncio.create_task(over.wait())
    await asyncio.wait({parent, ended}, return_when=asyncio.FIRST_COMPLETED)
    for task in (parent, ended):
        task.cancel()


class Hub:
    """Hands cancel requests to the other workers, of which one may have given out the key, and waits for what
    they say: a cancel that is still on its way could hit what the client sends next. What gets lost is a
    cancel not done, which PostgreSQL promises no more than we do.

    A datagram is a request, a number of the sender's own with the key behind it, or the number alone: done.
    """

    def __init__(self, directory: Path, worker: int) -> None:
        self._directory = directory
        self._mine = directory / f"cancel-{worker}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._mine.unlink(missing_ok=True)
        self._socket.bind(str(self._mine))
        self._numbers = count()
        self._asked: dict[int, tuple[set[str], asyncio.Event]] = {}

    async def send(self, pid: int, secret: bytes) -> None:
        """Ask all others, and wait until each has passed it on or has no such key."""
        number, others, done = next(self._numbers) % _MOST, set[str](), asyncio.Event()
        for other in self._directory.glob("cancel-*.sock"):
            if other != self._mine:
                with suppress(OSError):
                    self._socket.sendto(_NUMBER.pack(number) + _CANCEL.pack(pid) + secret, str(other))
                    others.add(str(other))
        self._asked[number] = (others, done)
        try:
            if others:
                await done.wait()
        finally:
            del self._asked[number]

    def listen(self, gate: Gate) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._take, gate)

    def _take(self, gate: Gate) -> None:
        with suppress(OSError):
            while True:
                datagram, sender = self._socket.recvfrom(512)
                if len(datagram) < _NUMBER.size:
                    continue
                (number,) = _NUMBER.unpack_from(datagram)
                if len(datagram) == _NUMBER.size:
                    self._heard(number, sender)
                elif len(datagram) > _NUMBER.size + _CANCEL.size:
                    (pid,) = _CANCEL.unpack_from(datagram, _NUMBER.size)
                    passing = gate.cancel(pid, datagram[_NUMBER.size + _CANCEL.size :])
                    self._answer(datagram[: _NUMBER.size], sender, passing)

    def _answer(self, number: bytes, sender: str, passing: asyncio.Task[None] | None) -> None:
        def answer(_: object = None) -> None:
            with suppress(OSError):
                self._socket.sendto(number, sender)

        if passing is None:
            answer()
        else:
            passing.add_done_callback(answer)

    def _heard(self, number: int, sender: str) -> None:
        others, done = self._asked.get(number, (set[str](), None))
        others.discard(sender)
        if done is not None and not others:
            done.set()

    def close(self) -> None:
        with suppress(OSError):
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            os.unlink(self._mine)


if __name__ == "__main__":
    main()
