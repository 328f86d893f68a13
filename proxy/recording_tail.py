"""Following a recording while it is written: the reader pulls, and whoever writes never knows of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from proxy.recording import Chain, FileOperation, Footer, Screen, Statement, Tampered

_BLOCK = 256 * 1024
_FOOTER = b'{"kind":"footer"'


class Tail:
    """The statements, screens and files of a recording from its beginning, or from what is written next.

    Everything is verified against the chain before it is given out. It holds one block and one group of
    lines at most, however long the recording is and however slowly it is read. `ended` is its last entry,
    once that has come. Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: Path, *, from_start: bool) -> None:
        self._chain = Chain()
        self._file: BinaryIO = path.open("rb")
        self._skip = 0 if from_start else os.fstat(self._file.fileno()).st_size
        self.ended: Footer | None = None
        self.behind = True

    def step(self) -> list[Statement | Screen | FileOperation]:
        """What a block of the file tells; `behind` is whether there may be more already.

        Raises Tampered where the recording is not as the gate wrote it, and OSError.
        """
        at = self._file.tell()
        if at > os.fstat(self._file.fileno()).st_size:
            raise Tampered(1, "it has become shorter")
        skipped = at < self._skip  # what was there before the following began is verified and not told
        data = self._file.read(min(_BLOCK, self._skip - at) if skipped else _BLOCK)
        self.behind = skipped or len(data) == _BLOCK
        said: list[Statement | Screen | FileOperation] = []
        for group in self._chain.feed(data):
            entries = list(group.entries()) if not skipped or _FOOTER in group.lines else []
            said += [entry for entry in entries if isinstance(entry, Statement | Screen | FileOperation)]
            if entries and isinstance(entries[-1], Footer):
                self.ended = entries[-1]
        return [] if skipped else said

    def close(self) -> None:
        self._file.close()
