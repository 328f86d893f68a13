"""`access ssh`, `ssh-config`, `ssh-certificate`, `ssh-ca`: hosts through the gate, with a key of one's own.

The key is made here and never leaves this machine; a certificate for it, under one grant, is fetched for each
entry. Everything is kept beside the login, in files that only their owner can read.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli import saved
from cli.client import Api
from cli.entering import Resource, RoleOption, held
from cli.say import say_plain, whisper
from cli.trouble import Trouble

_KEY = "ssh_key"
_KNOWN_HOSTS = "ssh_known_hosts"
Source = Annotated[str, typer.Option(help="An address or network that the certificate is bound to.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing where it works.")]


@dataclass(frozen=True, slots=True)
class Entry:
    """What ssh needs to enter: where, as whom, and the files that prove it."""

    host: str
    port: int
    user: str
    role: str
    resource: str
    key: Path
    certificate: Path
    known_hosts: Path

    def options(self) -> list[tuple[str, str]]:
        """Options of ssh_config(5)."""
        return [
            ("HostName", self.host),
            ("Port", str(self.port)),
            ("User", f"{self.user}+{self.role}"),
            ("IdentityFile", _quoted(self.key)),
            ("CertificateFile", _quoted(self.certificate)),
            ("IdentitiesOnly", "yes"),
            ("PreferredAuthentications", "publickey"),
            ("UserKnownHostsFile", _quoted(self.known_hosts)),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("StrictHostKeyChecking", "yes"),
            ("UpdateHostKeys", "no"),
            # The gate's fastest first: OpenSSH before 10 would choose by its own order, which has CTR ahead.
            ("Ciphers", "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes256-ctr"),
            ("ForwardAgent", "no"),
            ("ForwardX11", "no"),
        ]


def ssh(
    resource: Resource,
    arguments: Annotated[list[str] | None, typer.Argument(help="For ssh itself, after --.")] = None,
    role: RoleOption = "",
    source: Source = "",
) -> None:
    """Open ssh on a host that you hold a grant on: access ssh web-1 -- systemctl status shop"""
    program = _ssh()
    entry = enter(Api.mine(), resource, role, source)
    options = [part for name, value in entry.options() for part in ("-o", f"{name}={value}")]
    os.execv(program, ["ssh", "-F", "none", *options, entry.resource, *(arguments or [])])  # noqa: S606


def ssh_certificate(
    resource: Resource, role: RoleOption = "", source: Source = "", quiet: Quiet = False
) -> None:
    """Fetch a certificate for your SSH key under your grant; `access ssh-config` has ssh do it itself."""
    entry = enter(Api.mine(), resource, role, source)
    if not quiet:
        whisper(f"{entry.user} at {entry.host}:{entry.port}, with {entry.key} and")
        say_plain(str(entry.certificate))


def ssh_config(
    resources: Annotated[list[str], typer.Argument(help="Hosts that you hold a grant on.")],
    write: Annotated[bool, typer.Option("--write", help="Keep it in a file to be included.")] = False,
) -> None:
    """Print what to put into ~/.ssh/config, so that plain `ssh web-1`, scp, sftp, rsync and git work."""
    api = Api.mine()
    text = "\n".join(_block(enter(api, resource)) for resource in resources)
    if not write:
        say_plain(text.rstrip())
        return
    place = saved.write_file("ssh_config", text)
    whisper("Put this line at the top of ~/.ssh/config:")
    say_plain(f"Include {_quoted(place)}")


def ssh_ca() -> None:
    """Print what a host has to trust: a file for sshd, and the lines that make it the only way in."""
    line = Api.mine().get("/api/v1/ssh/authority")["line"]
    whisper("On the host, as root, in /etc/ssh/portcullis_ca.pub:")
    say_plain(line)
    whisper("In /etc/ssh/sshd_config (the second line closes the way round by keys of one's own):")
    say_plain("TrustedUserCAKeys /etc/ssh/portcullis_ca.pub")
    say_plain("AuthorizedKeysFile none")


def enter(api: Api, resource: str, role: str = "", source: str = "") -> Entry:
    """Make a key where there is none, and fetch a certificate for it. Raises Trouble without a live grant."""
    key = _key()
    public = key.with_suffix(".pub").read_text()
    body = {"resource": resource, "role": role, "public_key": public, "source": source}
    try:
        made = api.post("/api/v1/ssh/certificates", body)
    except Trouble as trouble:
        if trouble.code == "no-grant":
            held(api, resource, role, "ssh", kind="ssh")  # says the same in this command's words
        raise
    gate = made["gate"]
    certificate = saved.write_file(
        f"ssh_{made['resource']}+{made['role']}-cert.pub", made["certificate"] + "\n"
    )
    known_hosts = saved.write_file(_KNOWN_HOSTS, gate["known_hosts"] + "\n")
    return Entry(
        gate["host"],
        gate["port"],
        made["user"],
        made["role"],
        made["resource"],
        key,
        certificate,
        known_hosts,
    )


def _block(entry: Entry) -> str:
    """`Match … exec` fetches a fresh certificate whenever ssh is about to connect."""
    kept = [f"{name}={value}" for name, value in saved.environment().items()]
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    access = shlex.join([*(["env", *kept] if kept else []), program, "ssh-certificate", "--quiet"])
    lines = [f"Host {entry.resource}", *(f"    {name} {value}" for name, value in entry.options())]
    fetch = f"{access} {entry.resource} --role {entry.role}".replace('"', '\\"')
    lines += [f'Match originalhost {entry.resource} exec "{fetch}"', "    IdentitiesOnly yes", ""]
    return "\n".join(lines)


def _key() -> Path:
    """The person's key for the gate, made at its first use."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    place = saved.home() / _KEY
    if not place.exists():
        made = Ed25519PrivateKey.generate()
        public = made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        saved.write_file(f"{_KEY}.pub", f"{public} portcullis\n")
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        place = saved.write_file(_KEY, pem)
    return place


def _ssh() -> str:
    program = shutil.which("ssh")
    if program is None:
        raise Trouble("ssh is not installed here.", "Debian: apt install openssh-client")
    return program


def _quoted(place: Path) -> str:
    """A path for ssh_config(5), where % and spaces have a meaning."""
    text = str(place).replace("%", "%%")
    return f'"{text}"' if " " in text else text
