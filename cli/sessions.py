"""`access sessions`: what was done through the gate."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from cli.client import Api
from cli.say import counted, instant, say_plain, say_table
from cli.trouble import Trouble
from cli.watching import watch

_CUT_SECONDS = 5.0
"""A cut takes less than a second; a gate that is away needs its lease."""

app = typer.Typer(help="Sessions through the gate, and their recordings.", no_args_is_help=True)


@app.command("list")
def list_(
    resource: Annotated[str, typer.Option(help="Only this resource.")] = "",
    key: Annotated[str, typer.Option(help="Only this request (R-…) or grant (G-…).")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
) -> None:
    """Sessions that you may see, newest first."""
    found = Api.mine().get("/api/v1/sessions", resource=resource, key=key, limit=limit)
    if not found:
        say_plain("No sessions.")
        return
    titles = ("session", "who", "resource", "role", "opened", "ended", "statements", "refused")
    say_table(titles, map(_row, found), whole=1)  # a session's name whole, to be pasted behind `replay`


def _row(it: dict[str, Any]) -> tuple[object, ...]:
    ended = f"{instant(it['closed_at'])} ({it['close_reason']})" if it["closed_at"] else "open"
    what = (it["id"], it["principal"], it["resource"], it["role"], instant(it["opened_at"]), ended)
    return (*what, it["statements"], it["refused"])


app.command()(watch)


@app.command()
def kill(
    session: Annotated[str, typer.Argument(help="S-…")],
    because: Annotated[str, typer.Option("--because", help="Why; whoever is in it reads it.")] = "",
) -> None:
    """Cut one session at once; the grant itself stays. Yours, or one whose grant you decide on."""
    api = Api.mine()
    found = api.post(f"/api/v1/sessions/{session}/kill", {"reason": because})
    deadline = time.monotonic() + _CUT_SECONDS
    while not found["closed_at"] and time.monotonic() < deadline:
        time.sleep(0.1)
        found = api.get(f"/api/v1/sessions/{session}")
    who = f"{found['id']} of {found['principal']} on {found['resource']}"
    if not found["closed_at"]:
        raise Trouble(
            f"{who} is to be cut, and its gate {found['gate']} has not said yet that it did.",
            "It cuts by itself when it cannot reach the broker. Look again: access sessions list",
        )
    say_plain(f"{who} is cut. The grant stays; to end that too: access revoke {found['grant_id']}")


@app.command()
def cast(
    session: Annotated[str, typer.Argument(help="S-…")],
    terminal: Annotated[int, typer.Option(min=1, help="Which of its terminals.")] = 1,
) -> None:
    """What a terminal showed, as an asciicast: access sessions cast S-… > it.cast; asciinema play it.cast"""
    found = Api.mine().get(f"/api/v1/sessions/{session}/recording")["casts"]
    if len(found) < terminal:
        shown = f"{session} showed {counted(len(found), 'terminal') if found else 'no terminal'}."
        raise Trouble(shown, f"Its statements: access sessions replay {session}")
    say_plain(found[terminal - 1].rstrip("\n"))


@app.command()
def har(session: Annotated[str, typer.Argument(help="S-…")]) -> None:
    """The HTTP requests of a session as an HTTP Archive: access sessions har S-… > it.har"""
    say_plain(json.dumps(Api.mine().get(f"/api/v1/sessions/{session}/har"), ensure_ascii=False, indent=1))


@app.command()
def replay(session: Annotated[str, typer.Argument(help="S-…")]) -> None:
    """What was done in a session, statement by statement; its chain is verified first."""
    for line in Api.mine().get(f"/api/v1/sessions/{session}/recording")["lines"]:
        say_plain(line)
