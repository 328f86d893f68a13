"""`access sessions watch`: statements and terminals as they are recorded."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from cli.client import Api
from cli.say import printable, whisper
from cli.searching import say_hit
from cli.trouble import Exit, Trouble


def watch(
    session: Annotated[str, typer.Argument(help="S-…")] = "",
    on: Annotated[str, typer.Option(help="All sessions on this resource, and those that come.")] = "",
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Of one session, also what was done before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """See what is done while it is done, masked as it is recorded; Ctrl-C ends it. That you watch is noted.

    A statement shows when it is over, a terminal while it goes on. Whoever is in the session is not slowed
    and does not see you.
    """
    if bool(session) == bool(on) or (on and from_start):
        raise Trouble(
            "Watch one session, or all on a resource.",
            "access sessions watch S-…, or access sessions watch --on prod-db",
            Exit.NOT_UNDERSTOOD,
        )
    query = urlencode({"on": on} if on else {"from_start": "true"} if from_start else {})
    one = f"{quote(session, safe='')}/" if session else ""
    path = f"/api/v1/sessions/{one}watch?{query}"
    over = ""
    try:
        with Api.mine().lines(path) as lines:
            for line in lines:
                event = json.loads(line)
                over = event.get("over", over)
                if as_json and event:
                    typer.echo(line)
                elif event:
                    _say(event)
    except KeyboardInterrupt:
        whisper("You watch no longer.")
        return
    if over != "the session ended":
        raise Trouble(f"The watch is over: {over or 'the broker ended it'}.")


def _say(event: dict[str, Any]) -> None:
    if it := event.get("joined"):
        whisper(f"— {it['id']}: {it['principal']} on {it['resource']} as {it['role']}, from {it['client']}")
        if event.get("left_out"):
            whisper(f"— {event['left_out']} more are open and not watched: name one, access sessions list")
    if hit := event.get("statement"):
        say_hit(hit)
    if it := event.get("shown"):
        _show(it)
    if it := event.get("left"):
        whisper(f"— {it['session_id']}: {it['how']}")


_CONTROL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(\x1b\\|\x07)|[@-Z\\^_])|\r|\x07|.\x08", re.S)
"""What steers a terminal (ECMA-48, 5.4 and 5.6): the watched may not steer the watcher's."""


def _show(it: dict[str, Any]) -> None:
    """What a channel shows: its text alone, with begin and exit told apart."""
    if it["event"] in ("o", "e"):
        typer.echo(printable(_CONTROL.sub("", it["text"])), nl=False)
    elif it["event"] == "f":
        typer.echo(printable(it["text"]))
    elif it["event"] in ("begin", "x"):
        whisper(f"— {it['session_id']}, channel {it['channel']}: {it['text']}")
