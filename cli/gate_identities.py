"""`access gates`: which gates on other machines there are."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.client import Api
from cli.say import printable, say_plain, whisper

app = typer.Typer(help="Gates on other machines: invite them, see them, remove them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The gate, like gate-berlin.")]


@app.command("list")
def list_() -> None:
    """The gates on other machines, and until when their certificates are good."""
    table = Table(box=None)
    for title in ("gate", "added by", "joined", "certificate until"):
        table.add_column(title, no_wrap=title == "gate", overflow="fold")
    for it in Api.mine().get("/api/v1/gates"):
        shown = (it["name"], it["added_by"], it["joined_at"] or "not yet", it["until"] or "")
        table.add_row(*(printable(str(value)) for value in shown))
    Console().print(table)


@app.command()
def add(name: Name) -> None:
    """Invite a gate: what it is to be started with, printed this once."""
    made = Api.mine().post("/api/v1/gates/add", {"name": name})
    whisper(
        f"Start it (access serve --only proxy) with this before {made['expires_at']}; it lets in one machine:"
    )
    say_plain(f"PORTCULLIS_BROKER_URL={made['address']}")
    say_plain(f"PORTCULLIS_GATE_JOIN={made['token']}")


@app.command()
def remove(name: Name) -> None:
    """Know a gate no longer: it is turned away at once, and its sessions end with their leases."""
    Api.mine().post(f"/api/v1/gates/{name}/remove")
    say_plain("Removed.")


@app.command()
def rotate() -> None:
    """Replace the authority that signs for gates. Each takes its next certificate from it."""
    Api.mine().post("/api/v1/gates/rotate")
    say_plain("A new authority is trusted; the former one until every gate has renewed, within a day.")
