"""`access http`: the address of a service behind the gate, and a line of curl with a token."""

from __future__ import annotations

import shlex

from cli import saved
from cli.client import Api
from cli.entering import Resource, RoleOption, held
from cli.say import say_plain, whisper
from cli.trouble import Trouble


def http(resource: Resource, role: RoleOption = "") -> None:
    """Print the address of a service that you hold a grant on, and a curl line with a token."""
    api = Api.mine()
    story = held(api, resource, role, verb="http", kind="http")
    gate = api.get("/api/v1/http/gate", resource=story["resource"])
    if not gate["address"]:
        raise Trouble(
            f"{resource} has no address at this gate: its name cannot stand before a domain.",
            "Whoever keeps access.yaml can give it an alias of small letters, digits and dashes.",
        )
    issued = api.post("/api/v1/tokens")
    ca = saved.write_file("gate-ca.pem", gate["ca"])
    whisper(f"In a browser, without any token: {gate['address']}/")
    whisper("With a token of yours, good to begin with for 10 minutes:")
    user = f"{issued['user']}/{story['role']}:{issued['token']}"
    say_plain(f"curl --cacert {shlex.quote(str(ca))} -u {shlex.quote(user)} {gate['address']}/")
