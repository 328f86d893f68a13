"""`access psql` and `access token`: through the gate with a password of one's own for a few minutes."""

from __future__ import annotations

import os
import shutil
from typing import Annotated, Any

import typer

from cli import saved
from cli.client import Api
from cli.say import say_plain, whisper
from cli.trouble import Exit, Trouble

Resource = Annotated[str, typer.Argument(help="A resource or its alias.")]
RoleOption = Annotated[str, typer.Option(help="Which role, where you hold several.")]

_COMMANDS = {"postgres": "psql", "ssh": "ssh", "http": "http", "kubernetes": "kubeconfig"}
_A = {
    "postgres": "a database",
    "ssh": "a host",
    "http": "an HTTP service",
    "kubernetes": "a Kubernetes cluster",
}
_OURS_TO_SET = ("PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGPASSFILE", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL")


def psql(
    resource: Resource,
    arguments: Annotated[list[str] | None, typer.Argument(help="For psql itself, after --.")] = None,
    role: RoleOption = "",
) -> None:
    """Open psql on a resource that you hold a grant on: access psql prod-db -- -c 'select 1'"""
    program = shutil.which("psql")
    if program is None:
        raise Trouble("psql is not installed here.", "Debian: apt install postgresql-client")
    environment = {name: value for name, value in os.environ.items() if name not in _OURS_TO_SET}
    environment |= by_certificate(Api.mine(), resource, role)
    os.execve(program, ["psql", *(arguments or [])], environment)  # noqa: S606  # psql takes our place


def token(resource: Resource, role: RoleOption = "") -> None:
    """Print a password for the gate, for any client; how to use it goes to standard error."""
    api = Api.mine()
    kind = kind_of(api, resource)
    if kind == "http":
        _http_token(api, resource, role)
    elif kind == "ssh":
        _ssh_token(api, resource, role)
    elif kind == "kubernetes":
        raise Trouble(f"{resource} is {_A[kind]}.", f"Enter it with: {way_in(kind, resource)}")
    else:
        _libpq_token(api, resource, role)


def _libpq_token(api: Api, resource: str, role: str) -> None:
    found = libpq(api, resource, role)
    whisper(
        f"host={found['PGHOST']} port={found['PGPORT']} dbname={found['PGDATABASE']} user={found['PGUSER']} "
        f"sslmode=verify-full sslrootcert={found['PGSSLROOTCERT']}"
    )
    whisper("The password, good to log in with for 10 minutes:")
    say_plain(found["PGPASSWORD"])


def _http_token(api: Api, resource: str, role: str) -> None:
    """The same for an HTTP service: as a bearer token, or as the password beside one's name."""
    story = held(api, resource, role, verb="http")
    gate, issued = api.get("/api/v1/http/gate", resource=story["resource"]), api.post("/api/v1/tokens")
    whisper(
        f"{gate['address']}/ with Authorization: Bearer TOKEN, or -u {issued['user']}/{story['role']}:TOKEN"
    )
    whisper("The token, good to begin with for 10 minutes:")
    say_plain(issued["token"])


def _ssh_token(api: Api, resource: str, role: str) -> None:
    """The same for an SSH host, for clients that bring no certificate."""
    story = held(api, resource, role)
    gate, issued = api.get("/api/v1/ssh/gate"), api.post("/api/v1/tokens")
    whisper(f"ssh -p {gate['port']} {issued['user']}+{story['resource']}+{story['role']}@{gate['host']}")
    whisper(f"For known_hosts: {gate['known_hosts']}")
    whisper("The password, good to log in with for 10 minutes:")
    say_plain(issued["token"])


def libpq(api: Api, resource: str, role: str = "") -> dict[str, str]:
    """What libpq needs to enter, as environment variables: the password is in no argument list.

    Raises Trouble where the caller holds no live grant there.
    """
    story = held(api, resource, role, kind="postgres")
    gate = api.get("/api/v1/gate")
    issued = api.post("/api/v1/tokens")
    # So that no server that asks for the token itself gets it (libpq 16 and later).
    proved = {"PGREQUIREAUTH": "scram-sha-256"} if gate["login"] == "scram" else {}
    return _to(gate, story, issued["user"]) | proved | {"PGPASSWORD": issued["token"]}


def by_certificate(api: Api, resource: str, role: str = "") -> dict[str, str]:
    """The same with a certificate for the grant instead of a password, where the gate asks for one."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    gate = api.get("/api/v1/gate")
    if not gate["certificates"]:
        return libpq(api, resource, role)
    story = held(api, resource, role, kind="postgres")
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    issued = api.post("/api/v1/certificates", {"grant": story["grant"]["id"], "public_key": public})
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return _to(gate, story, issued["user"]) | {
        "PGSSLCERT": str(saved.write_file("gate-client.pem", issued["certificate"])),
        "PGSSLKEY": str(saved.write_file("gate-client.key", private)),
    }


def _to(gate: Any, story: Any, user: str) -> dict[str, str]:
    """Where, as whom, and by what the gate is known."""
    ca = saved.write_file("gate-ca.pem", gate["ca"])
    return {
        "PGHOST": gate["host"],
        "PGPORT": str(gate["port"]),
        "PGDATABASE": story["resource"],
        "PGUSER": f"{user}/{story['role']}",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(ca),
        "PGAPPNAME": "access psql",
    }


def way_in(kind: str, resource: str) -> str:
    """The command that enters a resource of this kind."""
    return f"access {_COMMANDS.get(kind, 'token')} {resource}"


def kind_of(api: Api, resource: str) -> str:
    """What kind of resource it is; "" where the caller may not know of it."""
    known = api.get("/api/v1/resources")
    return next((str(it["kind"]) for it in known if resource in (it["name"], *it["aliases"])), "")


def _must_be(kind: str, found: str, resource: str) -> None:
    """Raise Trouble where the resource is known to be of another kind than the command enters."""
    if found and found != kind:
        raise Trouble(
            f"{resource} is {_A.get(found, found)}, not {_A[kind]}.",
            f"Enter it with: {way_in(found, resource)}",
        )


def held(api: Api, resource: str, role: str, verb: str = "psql", kind: str = "") -> Any:
    """The story of the caller's live grant there. Raises Trouble where there is none, or several roles, or
    where the resource is not of this `kind`.
    """
    known = [it for it in api.get("/api/v1/resources") if resource in (it["name"], *it["aliases"])]
    if kind:
        _must_be(kind, next((it["kind"] for it in known), ""), resource)
    names = {resource, *(it["name"] for it in known)}
    found = [
        story
        for story in api.get("/api/v1/me")["grants"]
        if story["resource"] in names and role in ("", story["role"])
    ]
    if not found:
        what = f"{resource} as {role}" if role else resource
        raise Trouble(
            f"You hold no live grant on {what}.", f"Ask: access request {resource} 1h because …", Exit.REFUSED
        )
    roles = sorted({story["role"] for story in found})
    if len(roles) > 1:
        raise Trouble(
            f"You hold {' and '.join(roles)} on {resource}.",
            f"Say which: access {verb} {resource} --role {roles[0]}",
        )
    return found[0]
