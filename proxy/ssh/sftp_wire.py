"""Packets of the SSH file transfer protocol 3 (draft-ietf-secsh-filexfer-02; OpenSSH PROTOCOL, 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MOST = 1 << 20
"""Bytes of a packet; OpenSSH's own limit is a quarter of it."""

INIT, VERSION = 1, 2
OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = range(3, 13)
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(13, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

FLAG_READ, FLAG_WRITE, FLAG_APPEND, FLAG_CREAT, FLAG_TRUNC = 1, 2, 4, 8, 16

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, UNSUPPORTED = 0, 1, 2, 3, 4, 8


class BadPacket(ValueError):
    """What came is no packet of this protocol."""


@dataclass(slots=True)
class Cut:
    """Takes whole packets (without their length) out of a stream of bytes."""

    pending: bytearray

    def packets(self, data: bytes) -> Iterator[bytes]:
        """Raises BadPacket."""
        self.pending += data
        at = 0
        while len(self.pending) - at >= 4:
            (length,) = struct.unpack_from("!I", self.pending, at)
            if not 1 <= length <= MOST:
                raise BadPacket(f"a packet of {length} bytes")
            if len(self.pending) - at - 4 < length:
                break
            yield bytes(memoryview(self.pending)[at + 4 : at + 4 + length])
            at += 4 + length
        del self.pending[:at]


class Fields:
    """Reads the fields of a packet behind its type in their order. Raises BadPacket at a missing one."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self.at = 1

    def number(self, size: int = 4) -> int:
        end = self.at + size
        if end > len(self._packet):
            raise BadPacket("a packet is too short")
        value, self.at = int.from_bytes(self._packet[self.at : end]), end
        return value

    def string(self) -> bytes:
        size = self.number()
        end = self.at + size
        if end > len(self._packet):
            raise BadPacket("a string is longer than its packet")
        value, self.at = self._packet[self.at : end], end
        return value

    def skimmed(self) -> memoryview:
        """A string that is looked at and not kept."""
        size = self.number()
        end = self.at + size
        if end > len(self._packet):
            raise BadPacket("a string is longer than its packet")
        value, self.at = memoryview(self._packet)[self.at : end], end
        return value

    @property
    def rest(self) -> bytes:
        return self._packet[self.at :]


def framed(packet: bytes) -> bytes:
    """A packet as it travels."""
    return len(packet).to_bytes(4) + packet


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def status(request: int, code: int, said: str) -> bytes:
    """A STATUS packet."""
    return bytes((STATUS,)) + request.to_bytes(4) + code.to_bytes(4) + string(said.encode()) + string(b"en")


def realpath(request: int, path: bytes) -> bytes:
    """A REALPATH packet."""
    return bytes((REALPATH,)) + request.to_bytes(4) + string(path)
