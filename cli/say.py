"""Words on the terminal. What comes from outside is made printable and never read as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_WIDE = 10_000
"""Columns of a table that nobody looks at in a terminal: no value is broken."""

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(*lines: str) -> None:
    """To standard output; rich markup is read, so what comes from elsewhere goes through `safe` or `bold`."""
    for line in lines:
        _out.print(line)


def safe(text: str) -> str:
    """Text from elsewhere within markup: printable, and never markup itself."""
    return escape(printable(text))


def bold(text: str) -> str:
    return f"[bold]{safe(text)}[/bold]"


def say_plain(text: str) -> None:
    """Text from elsewhere to standard output, as it is, without control characters."""
    _out.print(printable(text), markup=False)


def say_list(head: str, items: Sequence[str], otherwise: str) -> None:
    say_plain(head if items else otherwise)
    for item in items:
        say_plain(f"  {item}")


def warn(why: str, way_out: str = "") -> None:
    """To standard error."""
    _err.print(f"[red]{safe(why)}[/red]")
    if way_out:
        _err.print(printable(way_out), markup=False)


def whisper(text: str) -> None:
    """To standard error, so that standard output can be piped."""
    _err.print(printable(text), markup=False)


def say_table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, whole: int = 0) -> None:
    """A table to standard output: as wide as the terminal, and in a pipe or a file as wide as it needs. The
    first `whole` columns are never broken, to be pasted. Values are shown as they are, not read as markup.
    """
    table = Table(box=None)
    for number, title in enumerate(titles):
        table.add_column(Text(printable(title)), no_wrap=number < whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row))
    width = None if _out.is_terminal else _WIDE
    Console(highlight=False, width=width).print(table)


def on_terminal() -> bool:
    """Whether somebody is there to answer."""
    return _out.is_terminal and _err.is_terminal


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def instant(text: str | None) -> str:
    """An instant of the API's for people, as the broker's own lines have it; nothing for none."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
