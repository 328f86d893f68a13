"""The `access` command. A command imports its heavy parts itself, so that the others are quick."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from cli import (
    cluster,
    devices,
    emergency,
    entering,
    gate_identities,
    http,
    login,
    mcp_server,
    policy,
    provisioning,
    run,
    serve,
    sessions,
    ssh,
    statements,
    trail,
    verbs,
)
from cli.say import say_plain, warn
from cli.sections import Sections
from cli.trouble import Exit, Trouble

VARIABLES = {
    "PORTCULLIS_BROKER": "The broker's address, in place of that of the login.",
    "PORTCULLIS_HOME": "Where the login and what belongs to it are kept. Default: `~/.config/portcullis`.",
    "PORTCULLIS_KEYRING": "`off` keeps the login's token in a file even where the system has a keyring.",
    "PORTCULLIS_DEBUG": "`1` shows the traceback of a fault of ours.",
    "NO_COLOR": "Anything: no colours.",
}
"""What the commands read from the environment, besides the settings of `access serve`."""

typer_app = typer.Typer(
    name="access",
    cls=Sections,
    help="Ask for access, decide, enter through the gate, and see who did what.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say_plain(f"access {version('portcullis')}")
        raise typer.Exit


@typer_app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Ask for access, decide, enter through the gate, and see who did what."""


for command in (login.login, login.logout, login.whoami, login.unbind):
    typer_app.command()(command)
verbs.register(typer_app)
typer_app.command("help", help=verbs.help_.__doc__)(verbs.help_)
_LOOSE = {"ignore_unknown_options": True, "allow_interspersed_args": False}
typer_app.command("break-glass", context_settings=_LOOSE)(emergency.break_glass)
typer_app.command(context_settings=_LOOSE)(emergency.drill)
typer_app.command()(emergency.reviews)
typer_app.add_typer(emergency.codes, name="codes")
typer_app.command()(entering.psql)
typer_app.command()(http.http)
typer_app.command()(ssh.ssh)
typer_app.command()(ssh.ssh_config)
typer_app.command()(ssh.ssh_certificate)
typer_app.command()(ssh.ssh_ca)
typer_app.command()(cluster.kubeconfig)
typer_app.command()(cluster.kube_token)
typer_app.command()(run.run)
typer_app.command()(entering.token)
typer_app.command("mcp")(mcp_server.mcp)
typer_app.add_typer(devices.app, name="devices")
typer_app.add_typer(gate_identities.app, name="gates")
typer_app.add_typer(provisioning.app, name="provisioning")
typer_app.add_typer(sessions.app, name="sessions")
typer_app.add_typer(statements.app, name="statements")
typer_app.add_typer(trail.app, name="audit")
typer_app.command()(policy.check)
typer_app.command()(policy.explain)
typer_app.command()(serve.serve)

_OWN_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@typer_app.command(context_settings=_OWN_OPTIONS)
def demo(context: typer.Context) -> None:
    """Run everything on this machine, with a sample database and a Slack look-alike: ./run"""
    try:
        alone = demo_app()
    except ModuleNotFoundError as error:
        raise Trouble(
            f"The demo needs {error.name}, which is no part of an installation.",
            "Run it from a checkout of the source: ./run",
        ) from None
    alone(context.args, prog_name="access demo", standalone_mode=False)


def demo_app() -> typer.Typer:
    """The demo with its own options; importing it takes a while."""
    from cli.demo import demo as run

    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    alone.command()(run)
    return alone


def app() -> None:
    """The entry point: whatever goes wrong ends in a sentence and an exit code."""
    try:
        typer_app()
    except Trouble as trouble:
        warn(trouble.why, trouble.way_out)
        sys.exit(trouble.exit_code)
    except BrokenPipeError:
        # Whoever read our output has left: nothing more to say, also not while Python shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.REFUSED)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        why = f"A file could not be read or written{place}: {error.strerror or error}."
        warn(why, "Mend that, and try again.")
        sys.exit(Exit.REFUSED)
    except Exception as error:
        if os.environ.get("PORTCULLIS_DEBUG"):
            traceback.print_exc()
        warn(
            f"Something broke in this command ({type(error).__name__}).",
            "PORTCULLIS_DEBUG=1 shows where. Please report it.",
        )
        sys.exit(Exit.BROKEN)


if __name__ == "__main__":
    app()
