"""A gate process's journal: what its recordings took in lately, on disk with one sync for all of them.

Syncing every session's file several times a second costs as many commits of the file system as there are
sessions, and as many turns between threads for Python's interpreter. So the blocks of all sessions go into
this one file first. The recordings' own files are written a little later and synced only when they end or the
journal has grown long; what a crash kept from them is brought back from the journal by the next gate process
that uses the directory.

A block is a line of JSON that says what follows, `{"session":…,"offset":…,"length":…,"crc":…}`, then bytes.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from proxy.files import sync, write_all

SUFFIX = ".journal"


class Block(msgspec.Struct, frozen=True):
    """The line before a block's bytes: where they belong, and their CRC-32, which tells a torn write."""

    session: str
    offset: int
    length: int
    crc: int


class Piece(NamedTuple):
    """Bytes for a session's file, from `offset` on."""

    session: str
    offset: int
    data: bytes


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Block).decode


class Journal:
    """The journal of this process. `size` is its length in bytes. Methods raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open()

    def _open(self) -> None:
        self._path = self._directory / f"{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # as long as this process lives, nobody recovers it
        sync(self._directory)
        self.size = 0

    def append(self, pieces: Sequence[Piece]) -> None:
        """Have all of them on disk, or none. After a failure the next call begins again."""
        if self._descriptor < 0:
            self._open()
        parts: list[bytes] = []
        for piece in pieces:
            parts += (
                _encode(Block(piece.session, piece.offset, len(piece.data), zlib.crc32(piece.data))),
                b"\n",
            )
            parts.append(piece.data)
        data = b"".join(parts)
        try:
            write_all(self._descriptor, data)
            os.fdatasync(self._descriptor)
            if os.fstat(self._descriptor).st_nlink == 0:
                raise FileNotFoundError("the journal was removed")
        except OSError:
            self._abandon()
            raise
        self.size += len(data)

    def _abandon(self) -> None:
        """Leave a journal that took in half a block, or none; what it had before is recovered some day."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.size)
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1

    def clear(self) -> None:
        """Forget everything: it is on disk where it belongs."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
        self.size = 0

    def close(self) -> None:
        """Remove it; everything is on disk where it belongs."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)


def recover(directory: Path) -> None:
    """Bring into the recordings of `directory` what crashed processes left in their journals. Raises OSError.

    A journal whose process lives is left alone. A block that begins beyond the end of its file, or whose file
    is gone, is left out: the trail tells that somebody cut the file or took it away, as it knows its seals.
    """
    for path in directory.glob(f"*{SUFFIX}"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            touched = {piece.session for piece in _pieces(file) if _restore(directory, piece)}
            for session in touched:
                sync(directory / f"{session}.jsonl")
            path.unlink(missing_ok=True)


def _pieces(file: IO[bytes]) -> Iterator[Piece]:
    """The whole blocks in order; a torn one ends them."""
    while line := file.readline():
        try:
            block = _decode(line)
        except msgspec.MsgspecError:
            return
        data = file.read(block.length)
        if len(data) != block.length or zlib.crc32(data) != block.crc:
            return
        yield Piece(block.session, block.offset, data)


def _restore(directory: Path, piece: Piece) -> bool:
    path = directory / f"{piece.session}.jsonl"
    if path.parent != directory or not path.exists() or path.stat().st_size < piece.offset:
        return False
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.lseek(descriptor, piece.offset, os.SEEK_SET)
        write_all(descriptor, piece.data)
    finally:
        os.close(descriptor)
    return True
