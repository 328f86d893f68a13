"""`access statements --by … --like …`: what was sent through the gate, looked for in the recordings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.client import Api
from cli.say import counted, say_plain, warn
from cli.trouble import Exit, Trouble
from workflows.spans import read_span

_PAGE = 100


def search(
    context: typer.Context,
    by: Annotated[str, typer.Option(help="Whose: a principal.")] = "",
    on: Annotated[str, typer.Option(help="Where: a resource or its alias.")] = "",
    like: Annotated[str, typer.Option(help="A part of the text; DELETE finds delete too.")] = "",
    since: Annotated[str, typer.Option(help="Begun within: 2h, 3d; or an instant, 2026-11-24T09:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Begun before: in the same words.")] = "",
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    kind: Annotated[
        str, typer.Option("--class", help="Only read, write, destructive, admin or unknown.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """What was sent through the gate, in the sessions that you may see, newest session first.

    Read out of the recordings, which are verified as they are read; values are masked as they were recorded.
    """
    filters = {
        "by": by,
        "on": on,
        "like": like,
        "since": _instant(since, "--since"),
        "until": _instant(until, "--until"),
        "refused": "true" if refused else "",
        "class": kind,
    }
    chosen = {name: value for name, value in filters.items() if value}
    if context.invoked_subcommand is not None:
        if chosen or as_json:
            raise Trouble(
                f"Options that look for statements do not go with {context.invoked_subcommand}.",
                "access statements --by ada --on prod-db --like DELETE, or one of the commands.",
                Exit.NOT_UNDERSTOOD,
            )
        return
    if not chosen:
        say_plain(context.get_help())
        return
    _show(chosen, limit, as_json)


def _show(chosen: dict[str, str], limit: int, as_json: bool) -> None:
    api, place, shown, searched = Api.mine(), "", 0, 0
    missing: list[str] = []
    broken: list[dict[str, str]] = []
    while True:
        more = {"place": place} if place else {}
        page = api.get("/api/v1/statements/search", limit=min(limit - shown, _PAGE), **chosen, **more)
        for hit in page["statements"]:
            typer.echo(json.dumps(hit)) if as_json else say_hit(hit)
        shown += len(page["statements"])
        searched += page["searched"]
        missing += page["missing"]
        broken += page["broken"]
        place = page["place"]
        if not place or shown >= limit:
            break
    if not shown:
        warn(f"Nothing found in {searched} recordings.")
    if place:
        warn(f"There may be more: these are the newest {shown}.", "Give --limit, or a narrower --since.")
    if missing:
        warn(
            f"{len(missing)} recordings are not on this broker's disk: {', '.join(missing[:5])}.",
            "Look on their gates: access sessions list says which.",
        )
    for it in broken:
        warn(f"The recording of {it['session_id']} does not hold: {it['problem']}", "Tell security.")
    if broken:
        raise typer.Exit(Exit.REFUSED)


def say_hit(hit: dict[str, Any]) -> None:
    """One statement: when, whose, the text, its values as recorded, and what came of it."""
    it = hit["statement"]
    began = datetime.fromisoformat(hit["began_at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    who = f"{hit['principal']} on {hit['resource']} as {hit['role']}"
    say_plain(f"{began} UTC  {who}  {hit['session_id']} #{it['n']}")
    for line in it["text"].splitlines():
        say_plain(f"    {line}")
    for index, value in enumerate(it["parameters"], 1):
        say_plain(f"    ${index} = {'NULL' if value is None else value}")
    said = it["tag"] if it["outcome"] == "ok" else f"{it['outcome'].upper()} {it['sqlstate']} {it['message']}"
    say_plain(f"    → {said.strip()} · {counted(it['rows'], 'row')} · {it['took'] * 1000:.1f} ms")


def _instant(text: str, option: str) -> str:
    """An instant out of a span before now, or of an ISO instant."""
    if not text:
        return ""
    span = read_span(text)
    if span is not None:
        return (datetime.now(UTC) - span).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Trouble(
            f"{option} {text} is neither a span nor an instant.",
            f"{option} 2h, {option} 3d, {option} 2026-11-24T09:00Z.",
            Exit.NOT_UNDERSTOOD,
        ) from None
    return (at if at.tzinfo else at.astimezone()).isoformat()
