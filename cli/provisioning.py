"""`access provisioning`: let an identity provider bring people and groups (SCIM)."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.client import Api
from cli.say import instant, say_plain, say_table, whisper

app = typer.Typer(help="People and groups from an identity provider (SCIM).", no_args_is_help=True)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="The provider, like okta or entra.")],
    days: Annotated[int, typer.Option(min=1, max=730, help="How long it is good for.")] = 365,
) -> None:
    """Make a token for the provider; it is printed this once. Its former one stays good until you end it."""
    made = Api.mine().post("/api/v1/provisioning/tokens/make", {"name": name, "days": days})
    whisper(f"Address: {made['address']}")
    whisper(f"The token, good until {instant(made['expires_at'])}:")
    say_plain(made["token"])


@app.command("list")
def list_() -> None:
    """The tokens that are good now."""
    found = Api.mine().get("/api/v1/provisioning/tokens")
    if not found:
        say_plain("No provider has a token. Make one: access provisioning token NAME")
        return
    rows = [(it["id"], it["name"], instant(it["since"]), instant(it["until"])) for it in found]
    say_table(("token", "provider", "since", "until"), rows, whole=1)


@app.command()
def end(key: Annotated[str, typer.Argument(help="The token, as `list` shows it.")]) -> None:
    """End a token at once."""
    Api.mine().post(f"/api/v1/provisioning/tokens/{key}/end")
    say_plain("Ended.")
