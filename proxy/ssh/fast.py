"""A shorter way for a channel's bytes through asyncssh's connections, where they are many.

asyncssh copies what is left of its input for each packet, sets up the cipher anew, and sends an empty packet
ahead of each that it sends, which only ciphers in CBC mode need (RFC 4251, 9.3.1). Here, under AES-GCM,
whole packets of channel data are taken in by their place in the input, and packets are sent at once. All
else (key exchange, authentication, requests, and any packet that is not quite as it should be) is left in
the input as it came: asyncssh reads it and says what is wrong with it.

This uses attributes of asyncssh that are not public. tests/proxy/ssh/test_fast.py holds both ways against
each other, so that a version of asyncssh in which they mean something else does not pass.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_USERAUTH_LAST
from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from asyncssh.channel import SSHChannel
    from asyncssh.connection import SSHConnection as _Base
    from asyncssh.packet import SSHPacketLogger
else:
    _Base = object

_LENGTH, _TAG, _BLOCK = 4, 16, 16
_LEAST = 12
"""Bytes of the smallest packet that can have data: lengths, type, channel, and the least padding."""


class Fast(_Base):
    """Stands before asyncssh's own class among the bases of a connection."""

    _reads: tuple[object, AESGCM] | None = None
    _writes: tuple[object, AESGCM] | None = None

    # --- in

    def _recv_pkthdr(self) -> bool:
        """Where the next packet begins: first take in what is data, whole, and at the front."""
        if self._auth_complete and isinstance(self._recv_encryption, GCMEncryption) and not self._take_data():
            return False
        return super()._recv_pkthdr()

    def _take_data(self) -> bool:
        """Whether asyncssh is to look at what comes next; no where it has not come whole."""
        encryption = self._recv_encryption
        assert isinstance(encryption, GCMEncryption)
        cipher = encryption._cipher
        if self._reads is None or self._reads[0] is not encryption:
            self._reads = (encryption, AESGCM(cipher._key))
        decrypt = self._reads[1].decrypt
        came = self._inpbuf
        view, at, size = memoryview(came), 0, len(came)
        try:
            while size - at >= _LENGTH:
                length = int.from_bytes(view[at : at + _LENGTH])
                end = at + _LENGTH + length + _TAG
                if not _LEAST <= length <= self._max_recv_pktlen:
                    return True
                if end > size:
                    return False
                plain = decrypt(cipher._iv, view[at + _LENGTH : end], view[at : at + _LENGTH])
                stop = length - plain[0]
                if plain[1] != MSG_CHANNEL_DATA or plain[0] < 4 or stop != 10 + int.from_bytes(plain[6:10]):
                    return True
                channel = self._channels.get(int.from_bytes(plain[2:6]))
                if channel is None or channel._recv_state != "open" or stop - 10 > channel._recv_window:
                    return True
                at = end
                cipher._update_iv()
                self._recv_seq = (self._recv_seq + 1) & 0xFFFFFFFF
                self._auth_final = True
                channel._accept_data(plain[10:stop])
                if self._transport is None:
                    return False
        except InvalidTag:
            return True
        finally:
            if at:
                self._inpbuf = came[at:]
        return size - at >= _BLOCK

    # --- out

    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        encryption = self._send_encryption
        if (
            pkttype > MSG_USERAUTH_LAST
            and isinstance(encryption, GCMEncryption)
            and self._auth_complete
            and self._kex_complete
            and self._compressor is None
            and self._rekey_bytes_sent < self._rekey_bytes
            and not (self._rekey_seconds and time.monotonic() >= self._rekey_time)
        ):
            self._send_at_once(encryption, pkttype, args)
        else:
            super().send_packet(pkttype, *args, handler=handler)

    def _send_at_once(self, encryption: GCMEncryption, kind: int, parts: tuple[bytes, ...]) -> None:
        """RFC 4253, 6, and RFC 5647, 7.2: the length is in clear and authenticated."""
        cipher = encryption._cipher
        if self._writes is None or self._writes[0] is not encryption:
            self._writes = (encryption, AESGCM(cipher._key))
        padding = -(2 + sum(map(len, parts))) % _BLOCK
        if padding < 4:
            padding += _BLOCK
        plain = b"".join((bytes((padding, kind)), *parts, os.urandom(padding)))
        head = len(plain).to_bytes(_LENGTH)
        out = bytearray(_LENGTH + len(plain) + _TAG)
        out[:_LENGTH] = head
        self._writes[1].encrypt_into(cipher._iv, plain, head, memoryview(out)[_LENGTH:])
        cipher._update_iv()
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += len(plain)
        self._send(out)  # type: ignore[arg-type]  # a transport takes either


def write(channel: SSHChannel[bytes], data: bytes) -> None:
    """As the channel's own write, without its copies where nothing waits and the other side has room."""
    connection = channel._conn
    if (
        isinstance(connection, Fast)
        and channel._send_state == "open"
        and channel._send_chan is not None
        and not channel._send_buf
        and 0 < len(data) <= channel._send_pktsize
        and len(data) <= channel._send_window
    ):
        channel._send_window -= len(data)
        number, size = channel._send_chan.to_bytes(4), len(data).to_bytes(4)
        connection.send_packet(MSG_CHANNEL_DATA, number, size, data)
    else:
        channel.write(data)


class FastClientConnection(Fast, asyncssh.SSHClientConnection):
    """The gate's connection to a host."""


class FastServerConnection(Fast, asyncssh.SSHServerConnection):
    """A client's connection to the gate."""
