"""What `./run` prints: where everything is, who is who, and what to try. Fits a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker.config import Config
from workflows.policy import decided_by


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to tell. `slack` is the page's address, empty where the bot talks to real Slack."""

    slack: str
    broker: str
    psql: str
    token: str
    token_minutes: int
    policy: str
    target: str
    host: str = ""
    notes: Sequence[str] = ()


def tell(console: Console, config: Config, told: Told, seconds: float) -> None:
    """Print the whole page; `seconds` is how long the start took."""
    console.print()
    console.print(
        Text("Portcullis is up.", style="bold green"),
        Text(f"({seconds:.1f} s) Ctrl-C stops it.", style="dim"),
    )
    for part in (_places(told), _people(config), _steps(config, told)):
        console.print()
        console.print(part)
    console.print()
    for note in told.notes:
        console.print(Text(f"{note}\n", style="yellow"))
    # The line to paste is printed raw: a wrapped or decorated line does not paste.
    console.print(Text("With plain psql, as Ada, once she has the grant", style="bold"))
    console.print(
        Text(f"(this password is good for {told.token_minutes} minutes to log in with):", style="dim")
    )
    print(f"PGPASSWORD={told.token} \\\n{told.psql}", file=console.file)
    console.print()


def _places(told: Told) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Slack", told.slack or "your own workspace")
    table.add_row("Broker", f"{told.broker}  [dim](pages and API)[/dim]")
    table.add_row("Target", told.target)
    if told.host:
        table.add_row("Host", f"web-1, {told.host}  [dim](./access ssh web-1)[/dim]")
    table.add_row("Policy", f"{told.policy}  [dim](edit it while this runs)[/dim]")
    return table


def _people(config: Config) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("Who", "In", "May"):
        table.add_column(column)
    for key, person in config.directory.everyone().items():
        table.add_row(person.name, ", ".join(sorted(person.groups)), ", ".join(_may(config, key)))
    return table


def _may(config: Config, key: str) -> list[str]:
    person = config.directory.everyone()[key]
    may = []
    if any(not rule.who.isdisjoint(person.groups) for rule in config.policy.rules):
        may.append("ask")
    if any(q.group in person.groups for rule in config.policy.rules for q in rule.quorum):
        may.append("approve")
    if config.policy.admins & person.groups:
        may.append("revoke, read the trail")
    return may or ["nothing"]


def _steps(config: Config, told: Told) -> Panel:
    rule = config.policy.rules[0]
    resource = next(iter(config.policy.resources))
    where = f"on {told.slack}" if told.slack else "in Slack"
    steps = Group(
        Text.assemble(("1 ", "bold cyan"), f"Be Ada {where} and type"),
        Text(f"  /access request {resource} 1h because INC-142", style="bold"),
        Text.assemble(("2 ", "bold cyan"), f"Be Grace and press Approve ({decided_by(rule)})."),
        Text.assemble(("3 ", "bold cyan"), "In another terminal:"),
        Text("  ./access login", style="bold"),
        Text(f'  ./access psql {resource} -- -c "SELECT id, name, email FROM users LIMIT 3"', style="bold"),  # noqa: S608
        Text("  The e-mail addresses are masked. Then press Release and see it end."),
    )
    return Panel(steps, title="Try", title_align="left", border_style="dim", width=80)
