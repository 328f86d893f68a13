"""What files the older way of scp moves, read off the stream of whoever sends them, for the recording only.

The sender says `C0644 SIZE NAME`, then the bytes, then a zero; `D0755 0 NAME` and `E` around a folder, `T…`
for times; a one or a two begins an error's text (OpenSSH's scp.c, as rcp did). Where a stream says something
else, no more of it is read, and the channel's own sizes and hashes are what there is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from proxy.ssh.sftp import Done, OpenFile
from proxy.ssh.shell.words import Unread, words_of

_FILE = re.compile(r"C[0-7]{4,5} ([0-9]{1,18}) ([^/\0]+)")
_FOLDER = re.compile(r"D[0-7]{4,5} 0 ([^/\0]+)")
_LONGEST = 64 * 1024


class Scp:
    """One `scp -t` or `scp -f` at the host. `sends` says whether the host sends; `place` is its operand."""

    def __init__(self, place: str, report: Callable[[Done], None], *, sends: bool, into: bool) -> None:
        self.sends = sends
        self._place = posixpath.dirname(place) if sends else place
        self._named = sends or into
        self._report = report
        self._folders: list[str] = []
        self._line = bytearray()
        self._file: OpenFile | None = None
        self._left = 0
        self._sent_as = ""
        self._gone = False

    def pass_on(self, data: bytes) -> None:
        """The sender's bytes, as they come."""
        at = 0
        while at < len(data) and not self._gone:
            if self._left:
                piece = data[at : at + self._left]
                assert self._file is not None
                self._file.pass_on(self._file.size, piece)
                self._left -= len(piece)
                at += len(piece)
            elif not self._line and data[at] == 0:
                at += 1
                self._close("ok")
            else:
                end = data.find(b"\n", at)
                stop = len(data) if end < 0 else end
                self._line += data[at:stop]
                at = stop + 1
                if end >= 0:
                    self._said(bytes(self._line))
                    self._line.clear()
                elif len(self._line) > _LONGEST:
                    self._gone = True

    def _said(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "backslashreplace")
        if raw[:1] in (b"\1", b"\2"):
            self._close("error", line[1:200])
        elif found := _FILE.fullmatch(line):
            self._close("ok")
            self._left = int(found[1])
            self._begin(found[2])
        elif found := _FOLDER.fullmatch(line):
            self._folders.append(found[1])
        elif line == "E" and self._folders:
            self._folders.pop()
        elif not line.startswith("T"):
            self._gone = True

    def _begin(self, name: str) -> None:
        """What is sent to a single place is that, or is in it if it is a folder: the host decides."""
        name = posixpath.join(*self._folders, name)
        path = posixpath.join(self._place, name) if self._named else self._place
        self._sent_as = "" if self._named else f"sent as {name}"
        self._file = OpenFile("read" if self.sends else "write", path)

    def _close(self, outcome: str, message: str = "") -> None:
        file, self._file, self._left = self._file, None, 0
        if file is not None:
            self._report(file.done(outcome, message or self._sent_as))

    def end(self) -> None:
        """The channel is closed: what was under way is told."""
        self._close("unfinished" if self._left else "ok", "")


def reading(line: str, report: Callable[[Done], None]) -> Scp | None:
    """A reader for what this line will move; None where it is no plain `scp -t PLACE` or `scp -f PLACE`."""
    try:
        words = [word.value for word in words_of(line)]
    except Unread:
        return None
    options = "".join(word[1:] for word in words[1:] if word and word.startswith("-"))
    places = [word for word in words[1:] if word and not word.startswith("-")]
    if words[:1] != ["scp"] or len(places) != 1 or ("t" in options) == ("f" in options):
        return None
    return Scp(places[0], report, sends="f" in options, into="d" in options)
