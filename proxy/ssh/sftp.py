"""Between an SFTP client and the host's server: each operation by the rules for its path, and recorded.

Requests go on in their order. One that changes something, or whose path the rules look at, waits until the
host has said what its path really is (REALPATH), and goes on with that real path: a link leads nowhere that
its target may not be reached. Handles are good for what their file was opened for, by the host itself.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.ssh import sftp_wire as wire
from proxy.ssh.paths import everywhere, permitted
from proxy.ssh.sftp_wire import BadPacket, Cut, Fields
from workflows.model import FileRule

FULL = 64
"""Packets that may wait for a path before the client is read no further."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done with a file. `outcome` is ok, error or refused."""

    operation: str
    path: str
    outcome: str
    to: str = ""
    size: int = 0
    sha256: str = ""
    message: str = ""


@dataclass(slots=True)
class OpenFile:
    """What a handle stands for. The hash counts while bytes pass in order, from the beginning."""

    operation: str
    path: str
    size: int = 0
    sha256: object = field(default_factory=hashlib.sha256)
    ordered: bool = True

    def pass_on(self, offset: int, data: bytes | memoryview) -> None:
        self.ordered = self.ordered and offset == self.size
        self.size += len(data)
        if self.ordered:
            self.sha256.update(data)  # type: ignore[attr-defined]

    def done(self, outcome: str, message: str = "") -> Done:
        digest = self.sha256.hexdigest() if self.ordered and self.size else ""  # type: ignore[attr-defined]
        return Done(self.operation, self.path, outcome, size=self.size, sha256=digest, message=message)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as the rules see it: `needs` are pairs of an operation and which of its paths. `link` says
    that it is about the name itself, also where that is a link. `head` and `tail` are around the paths.
    """

    operation: str
    paths: tuple[bytes, ...]
    needs: tuple[tuple[str, int], ...]
    head: bytes
    tail: bytes = b""
    link: bool = False
    untouched: tuple[int, ...] = ()


@dataclass(slots=True)
class _Asked:
    """What a request that went on was, for its answer."""

    operation: str = ""
    path: str = ""
    to: str = ""
    handle: bytes = b""
    offset: int = 0


class Report(Protocol):
    def __call__(self, done: Done, /) -> None: ...


class Sftp:
    """One SFTP channel. `to_host` and `to_client` send bytes, `report` hears of every operation on files."""

    def __init__(
        self,
        rules: tuple[FileRule, ...],
        to_host: Callable[[bytes], object],
        to_client: Callable[[bytes], object],
        report: Report,
    ) -> None:
        self._rules = rules
        self._to_host = to_host
        self._to_client = to_client
        self._report = report
        self._from_client = Cut(bytearray())
        self._from_host = Cut(bytearray())
        self._gone_on = 0
        """Bytes of the packet that has not come whole that the client has already."""
        self._skimming = False
        self._own: list[bytes] = []
        """Answers of the gate's own that wait for the end of that packet."""
        self._waiting: deque[bytes] = deque()
        self._checking: _Check | None = None
        self._asked: dict[int, _Asked] = {}
        self._files: dict[bytes, OpenFile] = {}
        self._begun = False

    @property
    def full(self) -> bool:
        """Whether so much waits that the client should be read no further."""
        return len(self._waiting) > FULL

    def from_client(self, data: bytes) -> None:
        """Raises BadPacket."""
        for packet in self._from_client.packets(data):
            if self._checking is not None or self._waiting:
                self._waiting.append(packet)
            else:
                self._request(packet)

    def from_host(self, data: bytes) -> None:
        """Raises BadPacket. Unless an answer may be to a question of the gate's own, bytes go on as they
        come: whoever gets a file gets it in as few pieces as the host sent.
        """
        pending = self._from_host.pending
        self._skimming = self._checking is None and not self._own
        if self._skimming:
            held = bytes(pending[self._gone_on :])
            self._to_client(held + data if held else data)
        for packet in self._from_host.packets(data):
            self._answer(packet)
        if self._skimming:
            self._skimming, self._gone_on = False, len(pending)
            self._tell_own()

    def _tell_own(self) -> None:
        """What waited, once the client has whole packets only."""
        if not self._skimming and not self._gone_on and self._own:
            own, self._own = b"".join(self._own), []
            self._to_client(own)

    def end(self) -> None:
        """The channel is closed: what was open is told."""
        for file in self._files.values():
            self._report(file.done("unfinished", "the session ended first"))
        self._files.clear()

    # ------------------------------------------------------------- requests

    def _request(self, packet: bytes) -> None:
        kind = packet[0]
        if kind == wire.INIT:
            if self._begun:
                raise BadPacket("it begins twice")
            self._begun = True
            self._to_host(wire.framed(packet))
            return
        fields = Fields(packet)
        number = fields.number()
        if number in self._asked or not self._begun:
            raise BadPacket("a number of a request that is not answered yet")
        if kind in (wire.READ, wire.WRITE, wire.CLOSE, wire.FSTAT, wire.READDIR, wire.FSETSTAT):
            self._by_handle(kind, number, fields, packet)
        elif kind == wire.REALPATH:
            self._go_on(packet, number, _Asked())
        elif (wanted := read_request(kind, fields)) is not None:
            self._by_path(number, wanted)
        elif kind == wire.EXTENDED and Fields(packet[4:]).string() in _FREE:
            self._go_on(packet, number, _Asked())
        else:
            self._refuse(number, wire.UNSUPPORTED, "the gate does not know this request")

    def _by_handle(self, kind: int, number: int, fields: Fields, packet: bytes) -> None:
        handle = fields.string()
        asked = _Asked(handle=handle)
        file = self._files.get(handle)
        if kind == wire.READ:
            asked.offset = fields.number(8)
        elif kind == wire.WRITE and file is not None:
            file.pass_on(fields.number(8), fields.skimmed())
        elif kind == wire.FSETSTAT and (file is None or file.operation != "write"):
            self._refuse(number, wire.PERMISSION_DENIED, "it is not open for writing")
            return
        elif kind == wire.CLOSE:
            asked.operation = "close"
        self._go_on(packet, number, asked)

    def _by_path(self, number: int, wanted: Wanted) -> None:
        if all(everywhere(self._rules, operation) for operation, _ in wanted.needs):
            self._pass(number, wanted, wanted.paths)
            return
        self._checking = _Check(number, wanted)
        self._look_up()

    def _look_up(self) -> None:
        """Ask the host what the next path really is."""
        check = self._checking
        assert check is not None
        path = check.wanted.paths[len(check.real)]
        if len(check.real) in check.wanted.untouched:
            self._found(path)
            return
        if check.wanted.link:
            folder, check.name = posixpath.split(path.rstrip(b"/") or b"/")
            path = folder or b"."
            if check.name in (b"", b".", b".."):
                self._checking = None
                self._refuse(check.number, wire.PERMISSION_DENIED, "this name is none of its own")
                return
        number = check.number
        while number in self._asked:
            number = (number + 1) & 0xFFFFFFFF
        check.asking = number
        self._to_host(wire.framed(wire.realpath(number, path)))

    def _found(self, real: bytes) -> None:
        check = self._checking
        assert check is not None
        check.real.append(real)
        if len(check.real) < len(check.wanted.paths):
            self._look_up()
            return
        self._checking = None
        for operation, index in check.wanted.needs:
            path = _text(check.real[index])
            if not permitted(self._rules, operation, path):
                self._report(Done(check.wanted.operation, path, "refused", message=f"may not {operation} it"))
                said = f"portcullis: your role may not {operation} {path}"
                self._refuse(check.number, wire.PERMISSION_DENIED, said)
                return
        self._pass(check.number, check.wanted, tuple(check.real))

    def _pass(self, number: int, wanted: Wanted, paths: tuple[bytes, ...]) -> None:
        """The request goes on, with these paths."""
        body = b"".join(wire.string(path) for path in paths)
        packet = wanted.head[:1] + number.to_bytes(4) + wanted.head[1:] + body + wanted.tail
        to = _text(paths[1]) if len(paths) > 1 else ""
        self._go_on(packet, number, _Asked(wanted.operation, _text(paths[0]), to))

    def _go_on(self, packet: bytes, number: int, asked: _Asked) -> None:
        self._asked[number] = asked
        self._to_host(wire.framed(packet))

    def _refuse(self, number: int, code: int, said: str) -> None:
        self._own.append(wire.framed(wire.status(number, code, said)))
        self._tell_own()

    # -------------------------------------------------------------- answers

    def _answer(self, packet: bytes) -> None:
        already, self._gone_on = self._gone_on, 0
        kind = packet[0]
        if kind == wire.VERSION:
            self._answered(packet, already)
            return
        fields = Fields(packet)
        number = fields.number()
        check = self._checking
        if check is not None and number == check.asking:
            if already or self._skimming:
                raise BadPacket("an answer that is older than its question")
            check.asking = -1
            self._looked_up(check, kind, fields, packet)
        elif (asked := self._asked.pop(number, None)) is not None:
            self._note(kind, fields, asked)
            self._answered(packet, already)
        else:
            raise BadPacket("an answer to no request")
        while self._waiting and self._checking is None:
            self._request(self._waiting.popleft())

    def _answered(self, packet: bytes, already: int) -> None:
        """To the client, as far as it has not been there."""
        if not self._skimming:
            self._to_client(wire.framed(packet)[already:])
            self._tell_own()

    def _looked_up(self, check: _Check, kind: int, fields: Fields, packet: bytes) -> None:
        if kind == wire.NAME and fields.number() == 1:
            real = fields.string()
            if check.wanted.link:
                real = posixpath.join(real, check.name)
            self._found(real)
            return
        # There is no such path: the host's own answer is the answer.
        self._checking = None
        code = fields.number() if kind == wire.STATUS else wire.FAILURE
        path = _text(check.wanted.paths[len(check.real)])
        self._report(Done(check.wanted.operation, path, "error", message=f"status {code}"))
        self._refuse(check.number, code or wire.FAILURE, "no such file, or no way to it")

    def _note(self, kind: int, fields: Fields, asked: _Asked) -> None:
        """What an answer means for what is recorded."""
        if kind == wire.HANDLE and asked.path:
            operation = "list" if asked.operation == "opendir" else asked.operation
            if operation == "list":
                self._report(Done("list", asked.path, "ok"))
            else:
                self._files[fields.string()] = OpenFile(operation, asked.path)
        elif kind == wire.DATA and asked.handle in self._files:
            self._files[asked.handle].pass_on(asked.offset, fields.skimmed())
        elif kind == wire.STATUS:
            code = fields.number()
            if asked.operation == "close":
                if (file := self._files.pop(asked.handle, None)) is not None:
                    self._report(file.done("ok" if code == wire.OK else "error"))
            elif asked.operation in _TOLD or (asked.operation in ("read", "write") and code != wire.OK):
                outcome = "ok" if code == wire.OK else "error"
                message = "" if code == wire.OK else f"status {code}"
                self._report(Done(asked.operation, asked.path, outcome, asked.to, message=message))


@dataclass(slots=True)
class _Check:
    """A request whose paths are being looked up."""

    number: int
    wanted: Wanted
    real: list[bytes] = field(default_factory=list)
    asking: int = -1
    name: bytes = b""


_TOLD = frozenset(["remove", "mkdir", "rmdir", "rename", "link", "symlink", "setstat"])
"""Operations that are recorded by their answer; looking is not recorded, opening is by what passed."""
_FREE = frozenset(
    {b"limits@openssh.com", b"fsync@openssh.com", b"fstatvfs@openssh.com", b"expand-path@openssh.com",
     b"home-directory", b"users-groups-by-id@openssh.com"}
)  # fmt: skip


def read_request(kind: int, fields: Fields) -> Wanted | None:
    """What a request with a path wants; None for one that is not known. Raises BadPacket."""
    if kind in _ONE_PATH:
        operation, need, link = _ONE_PATH[kind]
        path = fields.string()
        link = link and not (kind == wire.LSTAT and path.endswith(b"/"))  # a slash follows the link
        return Wanted(operation, (path,), ((need, 0),), bytes((kind,)), fields.rest, link)
    if kind == wire.OPEN:
        return _open(fields)
    if kind == wire.RENAME:
        return Wanted("rename", (fields.string(), fields.string()), _MOVES, bytes((kind,)), link=True)
    if kind == wire.SYMLINK:
        # OpenSSH has the target first, against the draft; the target is a text, not a path to be looked up.
        paths = (fields.string(), fields.string())
        return Wanted("symlink", paths, (("write", 1),), bytes((kind,)), link=True, untouched=(0,))
    return _extended(fields) if kind == wire.EXTENDED else None


_MOVES = (("delete", 0), ("write", 1))
_ONE_PATH = {
    wire.LSTAT: ("stat", "list", True),
    wire.STAT: ("stat", "list", False),
    wire.SETSTAT: ("setstat", "write", False),
    wire.OPENDIR: ("opendir", "list", False),
    wire.REMOVE: ("remove", "delete", True),
    wire.MKDIR: ("mkdir", "write", True),
    wire.RMDIR: ("rmdir", "delete", True),
    wire.READLINK: ("readlink", "list", True),
}


def _open(fields: Fields) -> Wanted:
    path, flags = fields.string(), fields.number()
    needs: list[tuple[str, int]] = []
    if flags & wire.FLAG_READ:
        needs.append(("read", 0))
    if flags & ~wire.FLAG_READ or not needs:
        needs.append(("write", 0))
    operation = "write" if ("write", 0) in needs else "read"
    tail = flags.to_bytes(4) + fields.rest
    return Wanted(operation, (path,), tuple(needs), bytes((wire.OPEN,)), tail)


def _extended(fields: Fields) -> Wanted | None:
    name = fields.string()
    head = bytes((wire.EXTENDED,)) + wire.string(name)
    if name == b"posix-rename@openssh.com":
        return Wanted("rename", (fields.string(), fields.string()), _MOVES, head, link=True)
    if name == b"hardlink@openssh.com":
        needs = (("read", 0), ("write", 0), ("write", 1))
        return Wanted("link", (fields.string(), fields.string()), needs, head, link=True)
    if name == b"statvfs@openssh.com":
        return Wanted("stat", (fields.string(),), (("list", 0),), head)
    if name == b"lsetstat@openssh.com":
        return Wanted("setstat", (fields.string(),), (("write", 0),), head, fields.rest, link=True)
    return None


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
