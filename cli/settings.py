"""Everything that `access serve` reads from the environment."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from broker.settings import Settings

ALL_PARTS = frozenset({"broker", "bot", "proxy"})


class ServeSettings(Settings):
    """The broker's settings, and those of the gate and of logins. All are read from `PORTCULLIS_…`."""

    gate_host: str = "127.0.0.1"
    """Where the gate listens."""
    gate_port: int = Field(default=6543, ge=0, le=65535)
    """The gate's port for PostgreSQL; 0 takes a free one."""
    gate_ssh_port: int | None = Field(default=None, ge=0, le=65535)
    """Where the gate listens for SSH, such as 2222. Nothing: it does not."""
    gate_http_port: int | None = Field(default=None, ge=0, le=65535)
    """Where the gate listens for HTTP (with TLS), such as 443 or 8443. Nothing: it does not."""
    gate_http_domain: str = "gate.localhost"
    """What stands behind a service's name in its address: `grafana` is reached at grafana.gate.example where
    this is `gate.example`. Names below `localhost` lead to this machine, in browsers and curl."""
    gate_public_host: str = ""
    """The name by which people reach the gate; it is in the gate's certificate. Empty: as `gate_host`."""
    gate_name: str = Field(default_factory=socket.gethostname)
    """How the trail names this gate. Each gate needs a name of its own."""
    gate_certificate: Path | None = None
    """PEM chain of the gate. Empty, with `gate_key` and `gate_ca`: a CA of its own in the data directory."""
    gate_key: Path | None = None
    """The key of that chain, PEM."""
    gate_ca: Path | None = None
    """PEM of the CA that clients verify the gate by. A broker without a gate of its own needs this alone."""
    gate_login: Literal["scram", "password"] = "scram"
    """How people prove their token at the gate: by SCRAM, which never sends it, or as a password inside TLS,
    for clients that know no SCRAM-SHA-256 (PostgreSQL 9.6 and older)."""
    gate_certificates: bool = False
    """Whether the gate asks clients for a certificate, too: `access psql` then brings one, for its grant
    alone. A client that brings another CA's is turned away, as at a PostgreSQL with `ssl_ca_file`."""
    gate_ssh_key: Path | None = None
    """The gate's SSH host key. Empty, with the next two: an authority of its own in the data directory."""
    gate_ssh_certificate: Path | None = None
    """The host certificate for that key."""
    gate_ssh_ca: Path | None = None
    """Public key of the authority that clients verify the gate's SSH host key by. A broker without a gate of
    its own needs this alone."""
    gates_host: str = "127.0.0.1"
    """Where the broker listens for gates on other machines."""
    gates_port: int | None = Field(default=None, ge=0, le=65535)
    """The port for gates on other machines (mutual TLS), such as 8443. Nothing: none is let in."""
    gates_url: str = ""
    """The address by which those gates reach it. Empty: the host of `public_url`, and `gates_port`."""
    broker_url: str = ""
    """Where a gate that is served alone (`--only proxy`) joins: its broker's public address."""
    gate_join: SecretStr = SecretStr("")
    """The join token that such a gate is given once, by `access gates add`."""
    recordings_dir: Path | None = None
    """Where sessions are recorded. Empty: `recordings` in the data directory."""

    @property
    def gates_reached_at(self) -> str:
        """Where gates on other machines are sent to; empty where none may come."""
        if self.gates_port is None:
            return ""
        host = urlsplit(self.public_url).hostname or self.gates_host
        here = f"[{host}]" if ":" in host else host
        return self.gates_url.rstrip("/") or f"https://{here}:{self.gates_port}"

    @property
    def recordings(self) -> Path:
        return self.recordings_dir or self.data_dir / "recordings"

    @property
    def gate_names(self) -> tuple[str, ...]:
        """What the gate's certificate must name."""
        listens = self.gate_host if self.gate_host not in {"0.0.0.0", "::", ""} else "127.0.0.1"  # noqa: S104
        names = (self.gate_public_host, listens, "localhost", "127.0.0.1")
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def gate_tls_names(self) -> tuple[str, ...]:
        """The same, with those of HTTP services."""
        below = (f"*.{self.gate_http_domain}",) if self.gate_http_port is not None else ()
        return (*self.gate_names, *below)

    @property
    def gate_reached_at(self) -> str:
        """The host in the line that people paste."""
        return self.gate_names[0]
