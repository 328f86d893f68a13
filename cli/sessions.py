"""`access sessions`: what was done through the gate."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.client import Api
from cli.say import printable, say_plain

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
    table = Table(box=None)
    table.add_column("session", no_wrap=True, overflow="fold")  # whole, to be pasted behind `replay`
    for title in ("who", "resource", "role", "opened", "ended", "statements", "refused"):
        table.add_column(title)
    for it in found:
        ended = f"{it['closed_at']} ({it['close_reason']})" if it["closed_at"] else "open"
        row = (
            it["id"],
            it["principal"],
            it["resource"],
            it["role"],
            it["opened_at"],
            ended,
            it["statements"],
            it["refused"],
        )
        table.add_row(*(printable(str(value)) for value in row))
    Console().print(table)


@app.command()
def replay(session: Annotated[str, typer.Argument(help="S-…")]) -> None:
    """What was done in a session, statement by statement; its chain is verified first."""
    for line in Api.mine().get(f"/api/v1/sessions/{session}/recording")["lines"]:
        say_plain(line)
