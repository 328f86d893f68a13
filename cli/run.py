"""`access run`: one statement, decided by those who must, run through the gate, and shown."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Api
from cli.say import counted, say_plain, say_table, whisper
from cli.trouble import Exit, Trouble

POLL_SECONDS = 1.0


def run(
    resource: Annotated[str, typer.Argument(help="A resource or its alias.")],
    statement: Annotated[str | None, typer.Argument(help="The SQL; - reads standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the statement from here.")] = None,
    role: Annotated[str, typer.Option(help="As which role.")] = "",
    because: Annotated[str, typer.Option("--because", help="Why; those who decide read it.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it is over, and show what came of it.")] = True,
) -> None:
    """Have exactly this statement run once: access run prod-db "SELECT 1" --because INC-142"""
    api = Api.mine()
    text = _text(statement, file)
    made = api.post("/api/v1/runs", {"resource": resource, "text": text, "role": role, "reason": because})
    asked = " and ".join(f"{q['needed']} of {q['group']}" for q in made["quorum"])
    said = f"asked {asked}" if asked else "nobody has to be asked"
    whisper(f"{made['id']}: a {made['statement_class']} statement; {said}.")
    if wait:
        _show(_wait(api, made["id"]))
    else:
        say_plain(made["id"])


def _text(statement: str | None, file: Path | None) -> str:
    if (statement is None) == (file is None):
        raise Trouble(
            "Give one statement.", 'access run prod-db "SELECT 1", or -f FILE.', Exit.NOT_UNDERSTOOD
        )
    try:
        if file is not None:
            return file.read_bytes().decode()
        return sys.stdin.read() if statement == "-" else str(statement)
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"The statement cannot be read: {error}.", "", Exit.NOT_UNDERSTOOD) from None


def _wait(api: Api, key: str) -> Any:
    """What came of it. Ctrl-C leaves it waiting; it can be read later."""
    try:
        while True:
            it = api.get(f"/api/v1/statements/{key}")
            if it["state"] in {"finished", "withdrawn"} and (found := _result(api, key)):
                return found
            if it["state"] in {"denied", "lapsed", "withdrawn"}:
                by = f" by {it['closed_by']}" if it["closed_by"] else ""
                why = f": {it['close_reason']}" if it["close_reason"] else ""
                raise Trouble(f"{key} is {it['state']}{by}{why}.", "Nothing was run.", Exit.REFUSED)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        whisper(
            f"It goes on waiting. See it: access statements result {key}. Take it back: access cancel {key}"
        )
        raise


def _result(api: Api, key: str) -> Any:
    try:
        return api.get(f"/api/v1/runs/{key}")
    except Trouble as trouble:
        if trouble.exit_code is Exit.UNREACHABLE:
            raise
        return None


def _show(it: Any) -> None:
    if it["error"]:
        state = f" (SQLSTATE {it['sqlstate']})" if it["sqlstate"] else ""
        raise Trouble(f"{it['error']}{state}", it["hint"], Exit.REFUSED)
    if it["columns"]:
        rows = (["∅" if value is None else value for value in row] for row in it["rows"])
        say_table(it["columns"], rows)
        cut = f", {len(it['rows'])} of them here" if it["total"] > len(it["rows"]) else ""
        whisper(f"{counted(it['total'], 'row')}{cut} in {it['seconds']} s")
    else:
        say_plain(f"{it['tag']} in {it['seconds']} s")


def result(key: Annotated[str, typer.Argument(help="V-…")]) -> None:
    """What came of a submitted statement, for 24 hours."""
    _show(Api.mine().get(f"/api/v1/runs/{key}"))
