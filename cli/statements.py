"""`access statements`: what was sent through the gate; what is held there, and the yes or no to it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.client import Api
from cli.run import result
from cli.say import say_list, say_plain
from cli.searching import search

app = typer.Typer(rich_markup_mode=None)
app.callback(invoke_without_command=True)(search)

_Key = Annotated[str, typer.Argument(help="V-…")]
_Reason = Annotated[str, typer.Option("--because", help="Why; whoever sent it reads it.")]


@app.command("list")
def list_() -> None:
    """What waits for you, oldest first."""
    found = Api.mine().get("/api/v1/statements")
    rows = [f"{it['id']}  {it['requester']} on {it['resource']}: {_short(it['text'])}" for it in found]
    say_list("Waiting for you:", rows, "No statement waits for you.")


@app.command()
def show(key: _Key) -> None:
    """The whole statement, what it touches, and what became of it."""
    _show(Api.mine().get(f"/api/v1/statements/{key}"))


app.command("result")(result)


@app.command()
def approve(
    key: _Key,
    rows: Annotated[int | None, typer.Option(min=0, help="Roll it back when it affects more rows.")] = None,
    because: _Reason = "",
) -> None:
    """Let these very bytes run, once."""
    _show(Api.mine().post(f"/api/v1/statements/{key}/approve", {"row_budget": rows, "reason": because}))


@app.command()
def deny(key: _Key, because: _Reason = "") -> None:
    """Refuse it."""
    _show(Api.mine().post(f"/api/v1/statements/{key}/deny", {"reason": because}))


def _show(it: dict[str, Any]) -> None:
    rows = "unknown" if it["estimate"] is None else f"{'' if it['counted'] else 'about '}{it['estimate']}"
    by = f" by {it['closed_by']}" if it["closed_by"] else ""
    why = f": {it['close_reason']}" if it["close_reason"] else ""
    say_plain(f"{it['id']} is {it['state']}{by}{why}")
    say_plain(f"  {it['requester']} on {it['resource']} as {it['role']}, rule {it['rule']}")
    say_plain(f"  {it['statement_class']}, touches {', '.join(it['tables']) or 'no table'}, rows: {rows}")
    if it["bounded"] is False:
        say_plain("  No condition bounds it.")
    if it["outcome"]:
        say_plain(f"  It ran: {it['outcome']}")
    say_plain(it["text"])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
