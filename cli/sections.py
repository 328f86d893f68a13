"""`access --help`: the commands under what one wants to do, each with its whole sentence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SECTIONS = {
    "Ask for access": ("request", "status", "who", "why", "extend", "nudge", "cancel", "release"),
    "Enter": (
        *("psql", "ssh", "http", "kubeconfig", "run", "token"),
        *("ssh-config", "ssh-certificate", "ssh-ca", "kube-token", "mcp"),
    ),
    "Decide": ("approve", "deny", "claim", "allow", "revoke"),
    "In an emergency": ("break-glass", "drill", "reviews", "review", "lock", "unlock", "codes"),
    "See what was done": ("sessions", "statements", "audit"),
    "Be somebody": ("login", "logout", "whoami", "devices", "link", "unlink"),
    "Keep it running": ("check", "explain", "serve", "provisioning", "gates", "unbind", "demo"),
    "Words": ("help",),
}


class Sections(TyperGroup):
    """The root command, whose help is told in `SECTIONS`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, _about(self.commands[name])) for name in names])


def _about(command: Any) -> str:
    return str(command.help or "").strip().partition("\n")[0]
