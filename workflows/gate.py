"""The words at the border between gate and broker, as frozen values.

proxy/authority.py is the Protocol that carries them. Spans cross this border as remaining seconds, not as
instants, so that a skewed wall clock on either side can only shorten access.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflows.model import EndReason, Quorum, ReviewState, Statement, Terms
from workflows.scram import Proof


@dataclass(frozen=True, slots=True)
class Knock:
    """Somebody at the gate: the name they gave, what they want to reach, and the token or a proof of it.

    `role` is empty when the client named none. `token` is the person's own short-lived login token; it is
    empty where there is a `proof` that the client has it, or a client `certificate` (DER, or over SSH an
    OpenSSH line), whose private key the client has shown to have. That names its person, so that over SSH
    `principal` may be empty; so does a token over HTTP. `device` is of a LoginLink that somebody is to have
    confirmed meanwhile.
    """

    gate: str
    protocol: str
    principal: str
    token: str
    resource: str
    role: str
    client: str
    proof: Proof | None = None
    certificate: bytes = b""
    device: str = ""

    def __repr__(self) -> str:
        return f"Knock({self.principal!r} at {self.resource!r} via {self.protocol}, from {self.client})"


@dataclass(frozen=True, slots=True)
class LoginLink:
    """Where a person logs in by a browser for a client that has none, and the `code` that they compare there.

    `device` stands for it between gate and broker, and is shown to nobody.
    """

    link: str
    code: str
    device: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where and as whom the gate logs in at the target: a login minted for this grant.

    `tls` is disable, require or verify-full; `ca` is a PEM text, empty for the system's store. An SSH host is
    entered with `key` (OpenSSH PEM) and `certificate`, and proves itself by one of `host_keys` or by a
    certificate of one of `host_cas`, all of them OpenSSH lines. An HTTP service is told `authority` as its
    host and gets `headers`, whose values are nobody's but the gate's; those and the ones in `removed` are
    dropped from what clients send.
    """

    host: str
    port: int
    database: str
    user: str
    password: str
    tls: str = "verify-full"
    ca: str = ""
    key: str = ""
    certificate: str = ""
    host_keys: tuple[str, ...] = ()
    host_cas: tuple[str, ...] = ()
    authority: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Upstream({self.host}:{self.port}/{self.database})"


@dataclass(frozen=True, slots=True)
class Admission:
    """The broker's yes: a session opened under a grant.

    `remaining` is the seconds until the grant's expiry; `lease` the seconds this yes is good for unless
    renewed. `mask_key` is the resource's own key for pseudonyms: the same at every gate and after every
    restart, so that equal values stay equal. `signature` answers the knock's proof. Of an agent, `owner` is
    the person it belongs to and `purpose` what it said that it wants to do.
    """

    session: str
    grant: str
    principal: str
    resource: str
    role: str
    terms: Terms
    remaining: float
    lease: float
    upstream: Upstream
    mask_key: bytes = field(repr=False)
    signature: bytes = field(default=b"", repr=False)
    owner: str = ""
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session's recording has come: entries written and the hash of the last one."""

    session: str
    entries: int
    head: str


@dataclass(frozen=True, slots=True)
class Closing:
    """A session's end as the gate saw it: `reason` is client, target, cut or error, `detail` for people."""

    session: str
    reason: str
    detail: str
    entries: int
    head: str
    statements: int
    refused: int
    rows: int


@dataclass(frozen=True, slots=True)
class GrantMinted:
    """A grant now exists; the gate should take hold of it and say so with `hold`."""

    grant: str
    remaining: float


@dataclass(frozen=True, slots=True)
class GrantEnded:
    """A grant is over; whatever is open under it is to be cut at once."""

    grant: str
    reason: EndReason
    detail: str


@dataclass(frozen=True, slots=True)
class SessionKilled:
    """Somebody ended this one session: it is to be cut at once. Its grant stays."""

    session: str
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The broker's answer about open sessions: in `remaining` those that may go on, each with the seconds
    until its grant's expiry. All others are to be cut; `ends` says why, as far as the broker can tell.
    """

    remaining: Mapping[str, float]
    ends: tuple[GrantEnded | SessionKilled, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldStatement:
    """A statement that waits at the gate for a decision, under the guardrail `rule`.

    `quorum` and `hold_for` (seconds) are the guardrail's. `transaction` tells the approver what the statement
    stands in, in words.
    """

    session: str
    statement: Statement
    rule: str
    quorum: tuple[Quorum, ...]
    hold_for: float
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class ReviewTicket:
    """The broker has put the statement before those who decide.

    `asked` says who, in words for the client; `link` is where it can be seen; `remaining` is the seconds
    until the review lapses.
    """

    review: str
    asked: str
    link: str
    remaining: float


@dataclass(frozen=True, slots=True)
class ReviewDecided:
    """A held statement has its answer; only `state` APPROVED lets the gate ask for the run."""

    review: str
    session: str
    state: ReviewState
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunPass:
    """The one run of an approved statement; more affected rows than `row_budget` are rolled back."""

    review: str
    row_budget: int | None = None


Notice = GrantMinted | GrantEnded | SessionKilled | ReviewDecided
