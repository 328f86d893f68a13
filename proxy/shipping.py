"""Recordings of a gate elsewhere, brought to the broker: read from the spool on this disk, sent in pieces.

Nothing of it is in a session's way: the pieces are read from the file that the recorder has written, one
after the other, and the broker says how much of it it holds. What it holds it never gives up for other bytes.
A recording that it holds whole is set aside in the spool; what a crash left behind is sent at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from proxy.recording import GENESIS, Chain, Footer, Tampered

PIECE = 1024 * 1024
EVERY = 0.5
"""Seconds between looks at what the recorder has written."""
SHIPPED = "shipped"
"""The folder in the spool for recordings that the broker holds whole."""

Send = Callable[[str, int, bytes], Awaitable[int]]
"""(session, offset, piece) → how many bytes of this recording the broker holds. Raises ConnectionError, and
NotOurs where it takes none of this session from this gate.
"""


class NotOurs(Exception):
    """The broker takes no recording of this session from this gate: another that shares the spool has it."""


class Shipment:
    """One recording on its way. `entries` and `seal` are of what the broker holds; one that is `left_over`
    was written by an earlier run, and nothing comes to it any more.
    """

    def __init__(self, session: str, path: Path, *, left_over: bool = False) -> None:
        self.session = session
        self.path = path
        self.left_over = left_over
        self.entries = 0
        self.seal = GENESIS
        self.whole = False
        self._offset = 0
        self._known = 0
        self._chain = Chain()
        self._turn = asyncio.Lock()

    async def send_on(self, send: Send) -> None:
        """Send what is there and is not held yet. Raises ConnectionError, OSError and, where the file is not
        what the recorder wrote, Tampered.
        """
        async with self._turn:
            while not self.whole and (piece := await asyncio.to_thread(self._read)):
                held = await send(self.session, self._offset, piece)
                if held < 0:
                    raise ConnectionError("The broker says that it holds less than nothing.")
                # It holds more than was sent where both see the same disk: the rest is gone through as well.
                self._took(piece, min(held, self._offset + len(piece)))

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            return file.read(PIECE)

    def _took(self, piece: bytes, held: int) -> None:
        """The broker holds the first `held` bytes, of which `piece` stands at our offset."""
        new = piece[max(0, self._known - self._offset) : max(0, held - self._offset)]
        for group in self._chain.feed(new):
            self.entries += group.lines.count(b"\n")
            self.seal = group.seal
            self.whole = b'{"kind":"footer"' in group.lines and isinstance(list(group.entries())[-1], Footer)
        self._known = max(self._known, held)
        self._offset = held


class Shipping:
    """The shipments of one gate. `log` tells what did not go well."""

    def __init__(self, spool: Path, send: Send, log: Callable[..., None]) -> None:
        self._spool = spool
        self._send = send
        self._log = log
        self._open: dict[str, Shipment] = {}

    def begin(self, session: str) -> None:
        """This session's recording has begun."""
        self._open[session] = Shipment(session, self._spool / f"{session}.jsonl")

    def progress(self, session: str) -> tuple[int, str]:
        """Entries that the broker holds, and the seal behind the last one."""
        it = self._open.get(session)
        return (it.entries, it.seal) if it is not None else (0, GENESIS)

    async def finish(self, session: str) -> None:
        """The recording is closed: send the rest. What does not go now goes later."""
        it = self._open.get(session)
        if it is not None:
            await self._ship(it)

    async def run(self) -> None:
        """Send as it is written, and what an earlier run left behind."""
        self._leftovers()
        while True:
            for it in list(self._open.values()):
                await self._ship(it)
            await asyncio.sleep(EVERY)

    def _leftovers(self) -> None:
        for path in sorted(self._spool.glob("S-*.jsonl")):
            self._open.setdefault(path.stem, Shipment(path.stem, path, left_over=True))

    async def _ship(self, it: Shipment) -> None:
        try:
            await it.send_on(self._send)
            if it.whole or it.left_over:
                mine = self._open.pop(it.session, None)
                if (
                    mine is not None and it.entries
                ):  # an empty one may be another worker's that is only beginning
                    await asyncio.to_thread(_set_aside, it.path)
        except ConnectionError:
            return  # the broker is away: its sessions end, and this goes on when it is back
        except NotOurs:
            self._open.pop(it.session, None)
        except (OSError, Tampered) as error:
            self._open.pop(it.session, None)
            self._log("a recording cannot be brought to the broker", session=it.session, error=str(error))


def _set_aside(path: Path) -> None:
    folder = path.parent / SHIPPED
    folder.mkdir(mode=0o700, exist_ok=True)
    path.rename(folder / path.name)
