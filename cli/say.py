"""Words on the terminal. What comes from outside is made printable and never read as markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(*lines: str) -> None:
    """To standard output; rich markup is read."""
    for line in lines:
        _out.print(line)


def say_plain(text: str) -> None:
    """Text from elsewhere to standard output, as it is, without control characters."""
    _out.print(printable(text), markup=False)


def say_list(head: str, items: Sequence[str], otherwise: str) -> None:
    say_plain(head if items else otherwise)
    for item in items:
        say_plain(f"  {item}")


def warn(why: str, way_out: str = "") -> None:
    """To standard error."""
    _err.print(f"[red]{escape(printable(why))}[/red]")
    if way_out:
        _err.print(printable(way_out), markup=False)


def whisper(text: str) -> None:
    """To standard error, so that standard output can be piped."""
    _err.print(printable(text), markup=False)


def on_terminal() -> bool:
    """Whether somebody is there to answer."""
    return _out.is_terminal and _err.is_terminal


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
