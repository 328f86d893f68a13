"""`access provisioning`: let an identity provider bring people and groups (SCIM)."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.client import Api
from cli.say import printable, say_plain, whisper

app = typer.Typer(help="People and groups from an identity provider (SCIM).", no_args_is_help=True)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="The provider, like okta or entra.")],
    days: Annotated[int, typer.Option(min=1, max=730, help="How long it is good for.")] = 365,
) -> None:
    """Make a token for the provider; it is printed this once. Its former one stays good until you end it."""
    made = Api.mine().post("/api/v1/provisioning/tokens/make", {"name": name, "days": days})
    whisper(f"Address: {made['address']}")
    whisper(f"The token, good until {made['expires_at']}:")
    say_plain(made["token"])


@app.command("list")
def list_() -> None:
    """The tokens that are good now."""
    table = Table(box=None)
    for title in ("token", "provider", "since", "until"):
        table.add_column(title, no_wrap=title == "token", overflow="fold")
    for it in Api.mine().get("/api/v1/provisioning/tokens"):
        table.add_row(*(printable(str(it[name])) for name in ("id", "name", "since", "until")))
    Console().print(table)


@app.command()
def end(key: Annotated[str, typer.Argument(help="The token, as `list` shows it.")]) -> None:
    """End a token at once."""
    Api.mine().post(f"/api/v1/provisioning/tokens/{key}/end")
    say_plain("Ended.")
