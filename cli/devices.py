"""`access devices`: where one is logged in."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cli.client import Api
from cli.say import instant, say_plain, say_table
from cli.trouble import Exit, Trouble

app = typer.Typer(help="Where you are logged in, and the end of it.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Your logins on command lines and in browsers, the last used first."""
    found = Api.mine().get("/api/v1/devices")
    times = ("since", "used", "until")
    rows = [(it["id"], it["kind"], *(instant(it[name]) for name in times)) for it in found]
    say_table(("device", "kind", "since", "last used", "until"), rows, whole=1)


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
    if not re.fullmatch("[0-9a-f]{16}", device):
        raise Trouble(
            f"“{device[:40]}” is no device; they are like 0123456789abcdef.",
            "See them: access devices list",
            Exit.NOT_UNDERSTOOD,
        )
    Api.mine().post(f"/api/v1/devices/{device}/end")
    say_plain("Ended.")
