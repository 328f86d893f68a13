"""What goes wrong at the command line, told to people: what, why, and the way out. Never a traceback."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `access`."""

    OK = 0
    REFUSED = 1
    NOT_UNDERSTOOD = 2
    NOT_LOGGED_IN = 3
    UNREACHABLE = 4
    BROKEN = 70


MEANINGS = {
    Exit.OK: "Done.",
    Exit.REFUSED: "Understood and not done, or found bad (`access check`, `access audit verify`).",
    Exit.NOT_UNDERSTOOD: "The command or the line was not understood.",
    Exit.NOT_LOGGED_IN: "Nobody is logged in, or the login is over.",
    Exit.UNREACHABLE: "The broker, or a server that it needs, does not answer.",
    Exit.BROKEN: "A fault of ours.",
}


class Trouble(Exception):
    """Ends the command with this message on standard error and this exit code."""

    def __init__(self, why: str, way_out: str = "", exit_code: Exit = Exit.REFUSED, code: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.way_out = way_out
        self.exit_code = exit_code
        self.code = code
