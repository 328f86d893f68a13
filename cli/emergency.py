"""Emergencies at the command line, also when chat, identity provider and on-call schedule are all away."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from cli import saved
from cli.client import Api
from cli.entering import kind_of, way_in
from cli.say import instant, say_list, say_plain, warn, whisper
from cli.trouble import Exit, Trouble
from cli.verbs import Words, line_of, run_line

codes = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Sealed codes for when everything else is away."
)


def break_glass(
    words: Words = None,
    code: Annotated[
        bool, typer.Option("--code", help="With a sealed code in place of a login; it is asked for.")
    ] = False,
) -> None:
    """In an emergency: access at once, a review owed: access break-glass prod-db because INC-142 …"""
    if not code:
        taken = run_line("break-glass", words or [])["stories"]
        if taken and taken[0]["grant"]:
            resource = taken[0]["resource"]
            whisper(f"Enter, in a moment: {way_in(kind_of(Api.mine(), resource), resource)}")
        return
    said = _read(line_of("break-glass", words or []))
    wish = said.wish
    body: dict[str, Any] = {
        "resource": wish.resource,
        "role": wish.role,
        "seconds": int(wish.duration.total_seconds()) if wish.duration else None,
        "incident": said.incident,
        "reason": wish.reason,
        "code": _ask_code(),
    }
    taken = Api(saved.broker_address()).post("/api/v1/break-glass/offline", body)
    _show(taken)


def drill(
    words: Words = None,
    code: Annotated[bool, typer.Option("--code", help="Try a sealed code too; it is not spent.")] = False,
) -> None:
    """Rehearse an emergency: everybody is told, nothing is open: access drill prod-db"""
    if not code:
        run_line("drill", words or [])
        return
    body = {"resource": " ".join(words or []), "code": _ask_code()}
    story = Api.mine().post("/api/v1/drills", body)
    say_plain(f"DRILL {story['id']} on {story['resource']}: everybody is told, nothing is open.")
    say_list("Found so far:", story["emergency"]["findings"], "")


def reviews() -> None:
    """Emergencies that you may review, the most urgent first."""
    owed = Api.mine().get("/api/v1/reviews")
    rows = [
        f"{it['id']}  {it['beneficiary'] or it['requester']} → {it['resource']} as {it['role']}, "
        f"{it['emergency']['incident']}, due {instant(it['emergency']['review_due'])}"
        for it in owed
    ]
    say_list("To review:", rows, "There is nothing for you to review.")


@codes.command("make")
def make(
    principal: Annotated[str, typer.Argument(help="Whose codes.")],
    count: Annotated[int, typer.Option(min=1, max=20, help="How many.")] = 3,
) -> None:
    """Make sealed codes for somebody; print them and lock them away: they are shown this once."""
    made = Api.mine().post("/api/v1/offline-codes", {"principal": principal, "count": count})
    whisper(
        f"For {principal}, each good once, until {instant(made['expires_at'])}. They are not shown again."
    )
    for code in made["codes"]:
        say_plain(code)


@codes.command("withdraw")
def withdraw(principal: Annotated[str, typer.Argument(help="Whose codes.")]) -> None:
    """End every sealed code of somebody."""
    ended = Api.mine().post("/api/v1/offline-codes/withdraw", {"principal": principal})
    say_plain(f"{ended['count']} codes of {principal} are good for nothing now.")


def _read(line: str) -> Any:
    """The line, read here: without a login the broker reads none."""
    from workflows.grammar import BreakGlass, Context, Mistake, parse

    said = parse(line, Context((), datetime.now(UTC), UTC))
    if isinstance(said, Mistake):
        raise Trouble(
            said.why, "Say: access break-glass --code RESOURCE because INC-1 …", Exit.NOT_UNDERSTOOD
        )
    if not isinstance(said, BreakGlass) or not said.resource:
        raise Trouble("With a code you name the resource.", "", Exit.NOT_UNDERSTOOD)
    return said


def _ask_code() -> str:
    """The code from the terminal, unseen, or from standard input; never from the argument list."""
    if sys.stdin.isatty():
        return str(typer.prompt("Sealed code", hide_input=True))
    return sys.stdin.readline().strip()


def _show(taken: Any) -> None:
    story = taken["story"]
    emergency, until = story["emergency"], instant(story["grant"]["expiry"])
    warn(f"EMERGENCY {emergency['incident']}: {story['id']}, open until {until}.")
    whisper(f"Everybody is told. A review is owed by {instant(emergency['review_due'])}.")
    line, password = _way_in(taken)
    whisper("Enter with (it takes a moment until the gate is open):")
    say_plain(line)
    whisper("The password, good to log in with for 10 minutes:")
    say_plain(password)


def _way_in(taken: Any) -> tuple[str, str]:
    """A line to paste, and the password that it asks for: nobody has to be logged in for it."""
    story, gate, user, token = taken["story"], taken["gate"], taken["entry"]["user"], taken["entry"]["token"]
    place = str(saved.write_file("gate-ca.pem", gate["ca"]))
    ca = shlex.quote(place)
    resource, role = story["resource"], story["role"]
    if taken["kind"] == "ssh" and (ssh := taken["ssh"]):
        known = saved.write_file("ssh_known_hosts", ssh["known_hosts"] + "\n")
        options = f"-o UserKnownHostsFile={shlex.quote(str(known))} -o StrictHostKeyChecking=yes"
        options += " -o PreferredAuthentications=password"  # not the page to log in at, which may be away
        return f"ssh -p {ssh['port']} {options} {user}+{resource}+{role}@{ssh['host']}", token
    if taken["kind"] == "http":
        return f"curl --cacert {ca} -u {shlex.quote(f'{user}/{role}')} {taken['address']}/", token
    if taken["kind"] == "kubernetes":
        at = urlsplit(taken["address"])
        where = f"--server https://{gate['host']}:{at.port or 443} --tls-server-name {at.hostname}"
        line = f'read -rs TOKEN; kubectl {where} --certificate-authority {ca} --token "$TOKEN" get pods'
        return line, f"{role}~{token}"
    where = f"host={gate['host']} port={gate['port']} dbname={resource} user={user}/{role}"
    return f"psql {shlex.quote(f'{where} sslmode=verify-full sslrootcert={_libpq_quoted(place)}')}", token


def _libpq_quoted(value: str) -> str:
    """A value in a connection string of libpq, where spaces part and quotes hold together."""
    if " " not in value and "'" not in value and "\\" not in value:
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
