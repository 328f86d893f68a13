"""`access devices`: where one is logged in."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.client import Api
from cli.say import printable, say_plain
from cli.trouble import Exit, Trouble

app = typer.Typer(help="Where you are logged in, and the end of it.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Your logins on command lines and in browsers, the last used first."""
    table = Table(box=None)
    for title in ("device", "kind", "since", "last used", "until"):
        table.add_column(title, no_wrap=title == "device", overflow="fold")
    for it in Api.mine().get("/api/v1/devices"):
        table.add_row(*(printable(str(it[name])) for name in ("id", "kind", "since", "used", "until")))
    Console().print(table)


@app.command()
def end(
    device: Annotated[str, typer.Argument(help="The device, as `list` shows it.", show_default=False)] = "",
    all_: Annotated[bool, typer.Option("--all", help="All of them, this one too.")] = False,
    of: Annotated[str, typer.Option(help="With --all: of somebody else, as an administrator.")] = "",
) -> None:
    """End a login, or all of them."""
    if bool(device) == all_ or (of and not all_):
        raise Trouble("Say which device, or --all.", "See them: access devices list", Exit.NOT_UNDERSTOOD)
    if all_:
        count = Api.mine().post("/api/v1/devices/end-all", {"principal": of} if of else {})["count"]
        say_plain(f"{count} logins ended.")
        return
    Api.mine().post(f"/api/v1/devices/{device}/end")
    say_plain("Ended.")
