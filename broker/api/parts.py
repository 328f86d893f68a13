"""What the HTTP side is made of; the composition root fills it in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from broker.clock import Chance, Clock
from broker.gates.gates import Gates
from broker.identity.certificates import ClientCertificates
from broker.identity.kept import Keep
from broker.identity.logins import Logins
from broker.identity.tokens import Tokens
from broker.identity.web import WebSessions
from broker.identity.workloads import Workloads
from broker.policy_file.http_schema import is_label
from broker.recordings import Recordings
from broker.runs import Runs
from broker.service import Service
from broker.ssh_entries import SshEntries
from workflows.gate import (
    Admission,
    Closing,
    HeldStatement,
    Knock,
    LoginLink,
    Notice,
    Progress,
    Renewal,
    ReviewTicket,
    RunPass,
)
from workflows.model import Refusal, Resource


class GateDoor(Protocol):
    """What a gate in another process may ask; broker/authority.py answers. See proxy/authority.py."""

    async def client_ca(self) -> str: ...
    async def admit(self, knock: Knock) -> Admission | Refusal: ...
    async def start_login(self, knock: Knock) -> LoginLink | Refusal: ...
    async def renew(self, gate: str, progress: Sequence[Progress]) -> Renewal: ...
    async def hold(self, gate: str, grant: str) -> None: ...
    async def close(self, gate: str, closing: Closing) -> None: ...
    async def ask_review(self, gate: str, held: HeldStatement) -> ReviewTicket | Refusal: ...
    async def take_run(self, gate: str, review: str, session: str, digest: str) -> RunPass | Refusal: ...
    async def finish_run(self, gate: str, review: str, outcome: str) -> None: ...
    async def withdraw_review(self, gate: str, review: str, why: str) -> None: ...
    def notices(self, gate: str) -> AsyncIterator[Notice]: ...


@dataclass(frozen=True, slots=True)
class GateAddress:
    """Where people reach the gate, the CA (PEM) that proves it, how a token is proved there (by scram or as a
    password), and whether clients are asked for certificates. For SSH: its port, 0 where it does not listen,
    and the line of a known_hosts file that proves it. For HTTP: its port, 0 where it does not listen, and the
    domain below which services are.
    """

    host: str
    port: int
    ca: str
    login: Literal["scram", "password"] = "scram"
    certificates: bool = False
    ssh_port: int = 0
    known_hosts: str = ""
    http_port: int = 0
    http_domain: str = ""

    def http_address(self, label: str) -> str:
        """Where a browser reaches the service of this name."""
        port = "" if self.http_port == 443 else f":{self.http_port}"
        return f"https://{label}.{self.http_domain}{port}"

    def address_of(self, resource: Resource) -> str:
        """The same of a resource. Empty where the gate does not listen for HTTP, and where none of the
        resource's names can stand before a domain.
        """
        label = next((name for name in (resource.name, *resource.aliases) if is_label(name)), "")
        return self.http_address(label) if label and self.http_port else ""


@dataclass(frozen=True, slots=True)
class Parts:
    """`public_url` is the address that browsers use, without a slash at its end. `ready` holds named checks
    for /readyz: each raises where that part cannot do its work. No `logins` means that nobody can log in.
    `gates_door` is where gates on other machines come to, empty where none may; `gate_token` is for this
    house's own gate processes.
    """

    service: Service
    tokens: Tokens
    keep: Keep
    web: WebSessions
    clock: Clock
    chance: Chance
    public_url: str
    door: GateDoor
    gate: GateAddress
    certificates: ClientCertificates
    recordings: Recordings
    workloads: Workloads
    gates: Gates
    runs: Runs | None = None
    ssh: SshEntries | None = None
    logins: Logins | None = None
    identity_keys: Mapping[str, Any] = field(default_factory=lambda: {"keys": []})
    gates_door: str = ""
    gate_token: str = field(default="", repr=False)
    ready: Mapping[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)

    @property
    def secure(self) -> bool:
        """Whether browsers come over https, so that cookies may say so."""
        return self.public_url.startswith("https://")
