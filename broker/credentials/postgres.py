"""A PostgreSQL login for each grant: made with the grant's end, dropped with the grant.

The keeper's own login at the target needs CREATEROLE, not superuser, and on PostgreSQL 16 and later ADMIN
OPTION on the roles it gives out (they are granted WITH ADMIN OPTION to it; on 15 that does no harm). The
server is given a SCRAM verifier (RFC 5802, RFC 7677), never the password, so neither its log nor
pg_stat_statements can hold one. PostgreSQL 14 and later.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from broker.config import PostgresTarget

CONNECT_SECONDS = 8.0
STATEMENT_SECONDS = 15.0
SCRAM_ITERATIONS = 4096  # PostgreSQL's own default; the passwords have 256 random bits
ADVISORY_LOCK = 0x504F5254  # "PORT": one clean-up at a time in a target
_MARK = "portcullis"


class TargetError(RuntimeError):
    """A target did not do what was asked. The text is for people and holds no secret."""


@dataclass(frozen=True, slots=True)
class NewLogin:
    """What to make. `grant` is noted at the role, so that an orphan is known as ours."""

    name: str
    password: str
    grant: str
    memberships: tuple[str, ...]
    expiry: datetime
    max_sessions: int

    def __repr__(self) -> str:
        return f"NewLogin({self.name})"


class PostgresLogins:
    """Logins at one target. `installation` tells ours from those of another Portcullis on the same target."""

    def __init__(self, name: str, target: PostgresTarget, installation: str) -> None:
        self._name = name
        self._target = target
        self._installation = installation

    async def make(self, login: NewLogin) -> None:
        """Make the login, or bring the one that is there to this password and end. Raises TargetError."""
        role = _ident(login.name)
        options = (  # what is not named here is off by default: superuser, createdb, createrole, replication
            f"LOGIN CONNECTION LIMIT {login.max_sessions:d} "
            f"PASSWORD {_literal(scram_verifier(login.password))} "
            f"VALID UNTIL {_literal(login.expiry.isoformat())}"
        )
        memberships = ", ".join(_ident(name) for name in login.memberships)
        mark = _literal(f"{_MARK}:{self._installation}:{login.grant}")
        async with self._connect() as server, server.transaction():
            known = await server.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", login.name)
            await server.execute(f"{'ALTER' if known else 'CREATE'} ROLE {role} {options}")
            await server.execute(f"GRANT {memberships} TO {role}")
            await server.execute(f"COMMENT ON ROLE {role} IS {mark}")

    async def drop(self, name: str) -> str:
        """End the login's connections and remove it. Raises TargetError; may be repeated.

        What it made is not lost: it goes to a role that the login was a member of, so that nothing of it has
        more rights after than before. (It never goes to the keeper's own login: a SECURITY DEFINER function
        would then run with CREATEROLE.) Where no such role may own it, the login stays behind, without
        password, memberships and the right to log in, as an owner only; the answer then says so, else "".
        """
        async with self._connect() as server:
            if not await server.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
                return ""
            await self._shut(server, name)
            heirs = [row[0] for row in await server.fetch(_MEMBERSHIPS, name)]
            for heir in [*heirs, None]:
                try:
                    async with server.transaction():
                        await self._remove(server, name, heir)
                    return ""
                except (asyncpg.InsufficientPrivilegeError, asyncpg.DependentObjectsStillExistError):
                    continue
            return await self._park(server, name, heirs)

    async def ours(self) -> dict[str, str]:
        """The logins that this installation made and that are there now, with their grants."""
        async with self._connect() as server:
            rows = await server.fetch(_OURS, f"{_MARK}:{self._installation}:%")
        return {row["rolname"]: row["mark"].rpartition(":")[2] for row in rows}

    # ------------------------------------------------------------- inside

    async def _shut(self, server: asyncpg.Connection, name: str) -> None:
        """Nobody logs in any more, and whoever is in is out. Membership gives us the right to do it."""
        role = _ident(name)
        async with server.transaction():
            await server.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
            await server.execute(f"ALTER ROLE {role} NOLOGIN PASSWORD NULL")
            await server.execute(f"GRANT {role} TO CURRENT_USER{_full(server)}")
        await server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1", name
        )

    async def _remove(self, server: asyncpg.Connection, name: str, heir: str | None) -> None:
        role = _ident(name)
        await server.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        if heir is not None and await server.fetchval(_OWNED, name):
            lent = not await server.fetchval("SELECT pg_has_role($1, 'USAGE')", heir)
            if lent:
                await server.execute(f"GRANT {_ident(heir)} TO CURRENT_USER{_full(server)}")
            await server.execute(f"REASSIGN OWNED BY {role} TO {_ident(heir)}")
            if lent:
                await server.execute(f"REVOKE {_ident(heir)} FROM CURRENT_USER")
        if await server.fetchval(_OWNED, name):
            raise asyncpg.DependentObjectsStillExistError(f"{name} still owns something")
        await server.execute(f"DROP OWNED BY {role}")  # only privileges are left
        await server.execute(f"DROP ROLE {role}")

    async def _park(self, server: asyncpg.Connection, name: str, heirs: Sequence[str]) -> str:
        role = _ident(name)
        async with server.transaction():
            if heirs:
                await server.execute(f"REVOKE {', '.join(map(_ident, heirs))} FROM {role}")
            await server.execute(
                f"COMMENT ON ROLE {role} IS 'kept by portcullis as the owner of what it made'"
            )
        return f"{name} stays at {self._name} without login, as the owner of what it made"

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection as the keeper. Every failure inside becomes a TargetError without details of ours."""
        try:
            server = await asyncpg.connect(
                host=self._target.host,
                port=self._target.port,
                database=self._target.database,
                user=self._target.admin_user,
                password=self._target.admin_password.read(),
                ssl=tls_context(self._target),
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                server_settings={"application_name": "portcullis", "lock_timeout": "5s"},
            )
        except LookupError as error:
            raise TargetError(f"The keeper's own password for {self._name} is not there: {error}.") from None
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise TargetError(_why(self._name, error)) from None
        try:
            yield server
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise TargetError(_why(self._name, error)) from None
        finally:
            server.terminate() if server.is_closed() else await _close(server)


async def _close(server: asyncpg.Connection) -> None:
    try:
        await server.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        server.terminate()


_MEMBERSHIPS = """
SELECT DISTINCT of.rolname FROM pg_auth_members m
JOIN pg_roles of ON of.oid = m.roleid JOIN pg_roles login ON login.oid = m.member
WHERE login.rolname = $1 ORDER BY 1
"""
_OWNED = """
SELECT true FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = $1 LIMIT 1
"""
_OURS = """
SELECT rolname, shobj_description(oid, 'pg_authid') AS mark FROM pg_roles
WHERE shobj_description(oid, 'pg_authid') LIKE $1
"""


def login_name(principal: str, grant: str) -> str:
    """`pc_<principal>_<grant>` in lower case, letters, digits and underscores, 63 bytes at most.

    What a long name loses is the end of the principal: the grant makes it unique.
    """
    tail = "_" + re.sub(r"[^a-z0-9]", "", grant.lower())
    person = re.sub(r"[^a-z0-9]+", "_", principal.lower()).strip("_")
    return f"pc_{person}"[: 63 - len(tail)] + tail


def scram_verifier(password: str, salt: bytes | None = None, iterations: int = SCRAM_ITERATIONS) -> str:
    """What PostgreSQL stores of an ASCII password (RFC 5802, 3; its format: src/common/scram-common.c)."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored = hashlib.sha256(client).digest()
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"


def tls_context(target: PostgresTarget) -> ssl.SSLContext | bool:
    """How to speak TLS with this target: verified with its name, encrypted only, or not at all."""
    if target.tls == "disable":
        return False
    context = ssl.create_default_context(cadata=target.ca or None)
    if target.tls == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _full(server: asyncpg.Connection) -> str:
    """Since PostgreSQL 16 a membership says whether it inherits and may be switched to."""
    return " WITH INHERIT TRUE, SET TRUE" if server.get_server_version().major >= 16 else ""


def _ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _why(name: str, error: Exception) -> str:
    """What went wrong, in words of ours: a server's own text may quote what it was sent."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f"{name} refuses the keeper's own login."
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"The keeper's own login at {name} lacks a right (CREATEROLE, or ADMIN OPTION on a role)."
    if isinstance(error, asyncpg.UndefinedObjectError):
        return f"A role that the policy gives out does not exist at {name}."
    if isinstance(error, asyncpg.PostgresError):
        return f"{name} refused (SQLSTATE {error.sqlstate})."
    if isinstance(error, ssl.SSLError):
        return f"{name} does not prove that it is itself ({type(error).__name__})."
    return f"{name} cannot be reached ({type(error).__name__})."
