"""Who comes in, and how the gate goes in at the target: logins on both sides, without I/O.

Client side: TLS, then a proof of the person's short-lived token (see scram.py) or, where the gate's settings
say so, the token itself as AuthenticationCleartextPassword. Target side: SCRAM-SHA-256 with channel binding
where the server offers it (RFC 5802, RFC 5929 tls-server-end-point), MD5 and a clear password only inside
verified TLS.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import struct
from collections.abc import Mapping
from typing import Any

from scramp import ScramClient, ScramException

from proxy.authority import Upstream
from proxy.postgres import codec
from workflows.model import Refusal

ASK_PASSWORD = codec.message(b"R", struct.pack("!I", 3))
WELCOME = codec.message(b"R", struct.pack("!I", 0))

MAX_ITERATIONS = 100_000
"""Of a target's SCRAM. PostgreSQL's own default is 4096; a count without bound would hold up every session,
and their cuts, for as long as a rogue target likes."""
_ITERATIONS = re.compile(r"(?:^|,)i=([1-9][0-9]{0,5})(?:,|$)")

ENCODINGS = frozenset({"UTF8", "UNICODE", "SQLASCII"})
"""Client encodings the gate reads statements in, normalised as the server does."""

_PASSED = frozenset(
    {
        "application_name",
        "client_encoding",
        "datestyle",
        "timezone",
        "intervalstyle",
        "extra_float_digits",
        "bytea_output",
        "geqo",
        "jit",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
        "search_path",
        "work_mem",
        "client_min_messages",
        "standard_conforming_strings",
    }
)
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][\w.\-]*)=((?:\\.|[^\s\\])*)\s*", re.DOTALL)


def split_user(user: str) -> tuple[str, str]:
    """`ada/readwrite` is Ada as readwrite; `ada` names no role and the grant decides."""
    principal, _, role = user.partition("/")
    return principal, role


def known_encoding(name: str) -> bool:
    """Whether the gate reads statements in this client encoding; the server ignores case and punctuation."""
    return re.sub(r"[^A-Za-z0-9]", "", name).upper() in ENCODINGS


def fatal(code: str, why: str, way_out: str = "") -> bytes:
    """The ErrorResponse that ends a connection."""
    return codec.error("FATAL", code, why, hint=way_out)


def refused(refusal: Refusal) -> bytes:
    """A refusal at the door. A wrong token is 28P01 as a wrong password is; all else is 28000."""
    code = "28P01" if refusal.code in ("wrong-token", "unknown-token", "token") else "28000"
    return fatal(code, refusal.why, refusal.way_out)


def session_parameters(asked: Mapping[str, str], *, read: bool = True) -> dict[str, str] | Refusal:
    """The startup parameters that go on to the target, or why they may not.

    Where the session's statements are `read`, `options` is taken apart so that nothing hides in it, and what
    is not known to be harmless is refused, because a setting can change how the server reads the statements
    that the gate has read. Where they are not, any SET would pass, and so does any parameter.
    """
    wanted: dict[str, str] = {}
    for name, value in asked.items():
        key = name.lower()
        if key in ("user", "database"):
            continue
        if key == "replication" and value.lower() in ("false", "off", "no", "0", ""):
            continue
        if key == "replication":
            return Refusal("replication", "A replication connection is not allowed through the gate.")
        if key.startswith("_pq_."):
            continue
        if key == "options" and read:
            inner = _read_options(value)
            if isinstance(inner, Refusal):
                return inner
            wanted.update(inner)
            continue
        wanted[key] = value
    for key, value in wanted.items() if read else ():
        if key not in _PASSED:
            return Refusal(
                "parameter",
                f"The startup parameter {key} is not allowed through the gate.",
                f"Leave {key} out of the connection options.",
            )
        if key == "client_encoding" and not known_encoding(value):
            return Refusal(
                "encoding",
                f"The gate cannot read statements in client encoding {value}.",
                "Set client_encoding to UTF8.",
            )
        if read and key == "client_min_messages" and value.lower().startswith("debug"):
            return Refusal("messages", "The target's debug messages do not pass the gate.")
        if key == "standard_conforming_strings" and value.lower() not in ("on", "true", "yes", "1"):
            return Refusal("strings", "The gate reads statements with standard_conforming_strings on only.")
    if read:  # a database may have another default, in which the gate could not read
        wanted.setdefault("client_encoding", "UTF8")
    return wanted


def _read_options(text: str) -> dict[str, str] | Refusal:
    found, at = {}, len(text) - len(text.lstrip())
    while at < len(text):
        match = _OPTION.match(text, at)
        if match is None:
            return Refusal("options", "The gate reads only -c name=value and --name=value in options.")
        name = match[1].replace("-", "_").lower()
        found[name] = re.sub(r"\\(.)", r"\1", match[2], flags=re.DOTALL)
        at = match.end()
    return found


class LoginError(Exception):
    """The target did not let the gate in. The text holds no secret."""


def _bounded(server_first: str) -> str:
    """The server's first SCRAM message. Raises LoginError where it asks for more work than MAX_ITERATIONS."""
    found = _ITERATIONS.search(server_first)
    if found is None or int(found[1]) > MAX_ITERATIONS:
        raise LoginError(f"the target asks for no number from 1 to {MAX_ITERATIONS} of iterations in SCRAM")
    return server_first


class TargetLogin:
    """The gate's side of the target's authentication: feed it each Authentication body, send what it returns.

    `tls` is the target connection's TLS object, None on a plain connection.
    """

    def __init__(self, upstream: Upstream, tls: ssl.SSLObject | None) -> None:
        self._upstream = upstream
        self._tls = tls
        self._scram: Any = None
        self._proved = False
        self.done = False

    def answer(self, body: bytes) -> bytes:
        """What to send for an Authentication message; empty when nothing. Raises LoginError."""
        if len(body) < 4:
            raise LoginError("the target sent a broken authentication message")
        (code,) = struct.unpack_from("!I", body)
        rest = body[4:]
        try:
            match code:
                case 0:
                    return self._welcomed()
                case 3:
                    return self._clear()
                case 5:
                    return self._md5(rest)
                case 10:
                    return self._scram_first([name.decode() for name in rest.split(b"\0") if name])
                case 11 if self._scram is not None:
                    self._scram.set_server_first(_bounded(rest.decode()))
                    return codec.message(b"p", self._scram.get_client_final().encode())
                case 12 if self._scram is not None:
                    self._scram.set_server_final(rest.decode())
                    self._proved = True
                    return b""
        except (ScramException, UnicodeDecodeError) as error:
            raise LoginError("the target failed SCRAM: it does not know the login's secret") from error
        raise LoginError(f"the target asks for authentication method {code}, which the gate does not do")

    def _welcomed(self) -> bytes:
        if self._scram is not None and not self._proved:
            raise LoginError("the target skipped its own proof in SCRAM")
        local = self._upstream.host.startswith("/")
        if not (self._proved or local or (self._tls is not None and self._upstream.tls == "verify-full")):
            raise LoginError(
                "the target proved itself neither by TLS nor by SCRAM; set its tls to verify-full"
            )
        self.done = True
        return b""

    def _clear(self) -> bytes:
        if self._tls is None or self._upstream.tls != "verify-full":
            raise LoginError("the target asks for a clear password and its identity is not verified by TLS")
        return codec.message(b"p", self._upstream.password.encode() + b"\0")

    def _md5(self, salt: bytes) -> bytes:
        if self._tls is None or self._upstream.tls != "verify-full":
            raise LoginError("the target asks for an MD5 password and its identity is not verified by TLS")
        login = (self._upstream.password + self._upstream.user).encode()
        inner = hashlib.md5(login, usedforsecurity=False).hexdigest().encode()
        outer = hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode()
        return codec.message(b"p", b"md5" + outer + b"\0")

    def _scram_first(self, offered: list[str]) -> bytes:
        plus = self._tls is not None and "SCRAM-SHA-256-PLUS" in offered
        if not plus and "SCRAM-SHA-256" not in offered:
            raise LoginError("the target offers no SCRAM-SHA-256")
        binding = ("tls-server-end-point", self._tls) if plus else None
        mechanism = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
        self._scram = ScramClient(  # type: ignore[no-untyped-call]
            [mechanism], self._upstream.user, self._upstream.password, binding
        )
        first = self._scram.get_client_first().encode()
        body = mechanism.encode() + b"\0" + struct.pack("!I", len(first)) + first
        return codec.message(b"p", body)
