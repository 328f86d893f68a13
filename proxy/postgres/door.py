"""Letting a PostgreSQL client in: TLS, startup, token, admission, recording, target; each or not at all."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import ssl
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from proxy.authority import Admission, Knock
from proxy.postgres import codec, scram, target
from proxy.postgres.auth import (
    ASK_PASSWORD,
    WELCOME,
    LoginError,
    fatal,
    known_encoding,
    refused,
    session_parameters,
    split_user,
)
from proxy.postgres.codec import WireError
from proxy.postgres.reading import Reading
from proxy.postgres.session import Session
from proxy.postgres.wire import Greeter, Lost
from proxy.recorder import RecordingError
from proxy.sql.guardrails import Circumstances
from workflows.model import Refusal
from workflows.scram import Proof

if TYPE_CHECKING:
    from proxy.gate import Gate

_TOKEN_LIMIT = 16 * 1024
_CANCEL_TIMEOUT = 5.0


class Turned(Exception):
    """The client does not come in; `message` is the last it hears, empty for silence."""

    def __init__(self, message: bytes = b"") -> None:
        super().__init__("turned away")
        self.message = message


class PostgresDoor:
    """The door for PostgreSQL clients of one gate, with the cancel keys it gave out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._keys: dict[int, list[tuple[bytes, Session]]] = {}  # by pid, unique at one target only
        self._greeting = 0

    def connection(self) -> asyncio.BaseProtocol:
        """A protocol for one new connection."""
        return Greeter(self._made)

    def _made(self, greeter: Greeter) -> None:
        if self._greeting >= self._gate.settings.max_greetings:
            greeter.abort()
            return
        self._gate.spawn(self._serve(greeter))

    async def _serve(self, greeter: Greeter) -> None:
        self._greeting += 1
        session: Session | None = None
        try:
            async with asyncio.timeout(self._gate.settings.greeting_timeout):
                startup = await self._first_words(greeter)
                asked_at = self._gate.clock.monotonic()
                admission = await self._admit(greeter, startup)
                session = Session(self._gate, admission, greeter, asked_at)
                self._gate.register(session)
                await self._enter(session, startup)
        except Turned as turned:
            self._dismiss(greeter, session, turned.message)
        except (Lost, ConnectionError, TimeoutError, ssl.SSLError):
            self._dismiss(greeter, session, b"")
        except WireError as error:
            self._dismiss(greeter, session, fatal("08P01", f"{error}."))
        except BaseException:
            # Nobody thought of this, or the gate stops: no session stays registered without its relay.
            self._dismiss(greeter, session, fatal("XX000", "The gate failed.", "Tell the gate's keepers."))
            raise
        finally:
            self._greeting -= 1

    def _dismiss(self, greeter: Greeter, session: Session | None, message: bytes) -> None:
        if session is not None and session.over:
            return
        if message:
            greeter.write(message)
        greeter.close()
        asyncio.get_running_loop().call_later(0.5, greeter.abort)
        if session is not None:
            session.end("error", "the session could not begin")

    # --- first words

    async def _first_words(self, greeter: Greeter) -> codec.Startup:
        """Everything up to the StartupMessage, which counts inside TLS only."""
        secure = await greeter.begins_with_tls()
        if secure:
            await greeter.encrypt(self._gate.settings.tls, server=True, direct=True)
            tls = greeter.tls
            if tls is None or tls.selected_alpn_protocol() != "postgresql":
                # As the server has it: without the name a cross-protocol attack could come in by TLS.
                raise Turned(fatal("08P01", "Direct TLS needs the ALPN protocol postgresql."))
        while True:
            packet = await greeter.packet(codec.MAX_STARTUP)
            (code,) = struct.unpack_from("!I", packet)
            if code == codec.SSL_REQUEST and not secure:
                greeter.write(b"S")
                await greeter.encrypt(self._gate.settings.tls, server=True)
                secure = True
            elif code == codec.GSSENC_REQUEST and not secure:
                greeter.write(b"N")
            elif code == codec.CANCEL_REQUEST:
                await self._cancel(packet)
                raise Turned
            else:
                startup = codec.read_startup(packet)
                if not secure:
                    raise Turned(
                        fatal(
                            "28000",
                            "The gate speaks TLS only, so that no token crosses the network in clear.",
                            "Connect with sslmode=require, or better verify-full with the gate's CA.",
                        )
                    )
                return startup

    async def _cancel(self, packet: bytes) -> None:
        """Pass a cancel on, for exactly the key that was given out; ignore any other.

        The connection is closed when the target has the request, as the server closes it: a client takes
        that for the sign that no cancel will hit what it sends next.
        """
        request = codec.read_cancel(packet)
        session = self._session_of(request.pid, request.secret)
        if session is not None:
            if (passing := session.cancel()) is not None:
                await asyncio.wait({passing}, timeout=_CANCEL_TIMEOUT)
        elif self._gate.settings.cancel_elsewhere is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_TIMEOUT):
                    await self._gate.settings.cancel_elsewhere(request.pid, request.secret)

    def cancel(self, pid: int, secret: bytes) -> asyncio.Task[None] | None:
        """Cancel what runs in the session with this key, if this worker gave it out. Returns the passing on,
        where there is any."""
        session = self._session_of(pid, secret)
        return None if session is None else session.cancel()

    def _session_of(self, pid: int, secret: bytes) -> Session | None:
        for given, session in self._keys.get(pid, ()):
            if hmac.compare_digest(given, secret):
                return session
        return None

    # --- who

    async def _admit(self, greeter: Greeter, startup: codec.Startup) -> Admission:
        user = startup.parameters.get("user", "")
        principal, role = split_user(user)
        if not principal:
            raise Turned(fatal("28000", "No user name was given.", "Connect as yourself: -U your-name."))
        unknown = [name for name in startup.parameters if name.startswith("_pq_.")]
        if startup.version > codec.PROTOCOL_3_2 or unknown:
            greeter.write(codec.negotiate_version(startup.version, unknown))
        certificate = greeter.tls.getpeercert(binary_form=True) if greeter.tls is not None else None
        by_scram = self._gate.settings.login == "scram"
        proof, token = None, ""
        if not certificate and by_scram:
            proof = await self._proof(greeter, principal)
        elif not certificate:
            token = await self._token(greeter)
        knock = Knock(
            gate=self._gate.settings.name,
            protocol="postgres",
            principal=principal,
            token=token,
            resource=startup.parameters.get("database", user),
            role=role,
            client=greeter.peer,
            proof=proof,
            certificate=certificate or b"",
        )
        answer = await self._gate.admit(knock)
        if isinstance(answer, Refusal):
            raise Turned(refused(answer))
        if proof is not None:
            greeter.write(scram.accepted(answer.signature))
        return answer

    async def _token(self, greeter: Greeter) -> str:
        greeter.write(ASK_PASSWORD)
        return _without_end(await self._said(greeter)).decode("utf-8", "replace")

    async def _proof(self, greeter: Greeter, principal: str) -> Proof:
        """What a client proves of its token, which stays with it."""
        exchange = scram.Exchange(principal, self._gate.settings.end_point, secrets.token_urlsafe(18))
        greeter.write(exchange.offer)
        try:
            greeter.write(exchange.first(await self._said(greeter)))
            return exchange.final(await self._said(greeter))
        except scram.Misled as misled:
            self._gate.log.warning("somebody may stand between", client=greeter.peer, why=str(misled))
            raise Turned(
                fatal(
                    "28000",
                    f"The login was stopped: {misled}.",
                    "Somebody may stand between you and the gate: use sslmode=verify-full and its CA.",
                )
            ) from misled

    async def _said(self, greeter: Greeter) -> bytes:
        kind, body = await greeter.message(_TOKEN_LIMIT)
        if kind != b"p":
            raise WireError("a password message was due")
        return body

    # --- in

    async def _enter(self, session: Session, startup: codec.Startup) -> None:
        parameters = session_parameters(startup.parameters, read=session.guarded)
        if isinstance(parameters, Refusal):
            raise Turned(refused(parameters))
        await self._record(session)
        try:
            reached = await target.connect(session.admission.upstream, parameters)
        except LoginError as error:
            raise Turned(
                fatal("08006", f"The gate could not enter the target: {error}.", "Tell the gate's keepers.")
            ) from error
        try:
            if session.over:
                raise Turned
            if session.guarded and not known_encoding(reached.parameters.get("client_encoding", "")):
                raise Turned(
                    fatal(
                        "22023",
                        "The gate cannot read statements in the target's default encoding.",
                        "Set client_encoding to UTF8.",
                    )
                )
            if session.guarded and reached.parameters.get("standard_conforming_strings", "on") != "on":
                raise Turned(
                    fatal(
                        "22023",
                        "The gate reads strings by the standard, and the target does not by default.",
                        "Set PGOPTIONS='-c standard_conforming_strings=on'.",
                    )
                )
            if session.guarded:
                session.reading = await self._reading(session, reached)
            key = self._new_key(session, reached.pid, 32 if startup.version >= codec.PROTOCOL_3_2 else 4)
            session.begin(reached, WELCOME + reached.greeting + key + _READY)
        except BaseException:
            if not session.begun:
                reached.greeter.abort()
            raise

    async def _reading(self, session: Session, reached: target.Target) -> Reading:
        try:
            picture = await self._gate.pictures.load(reached)
        except (LoginError, ValueError) as error:
            raise Turned(
                fatal("08006", "The gate could not read the target's catalog.", "Tell the gate's keepers.")
            ) from error
        if session.over:
            raise Turned
        it = session.admission
        who = Circumstances(it.principal, it.resource, it.role)
        return Reading(self._gate.pictures, picture, it.terms, it.mask_key, self._gate.clock.monotonic(), who)

    async def _record(self, session: Session) -> None:
        try:
            await session.begin_recording(self._gate.recorder, session.client.peer, "postgres")
        except RecordingError as error:
            raise Turned(fatal("58030", str(error), "Tell the people who run the gate.")) from error
        if session.over:
            raise Turned

    def _new_key(self, session: Session, pid: int, size: int) -> bytes:
        """A cancel key: the target's pid, which notifications and pg_stat_activity show, too, with a secret
        of the gate's own. The target's never leaves.
        """
        key = (secrets.token_bytes(size), session)
        self._keys.setdefault(pid, []).append(key)
        session.on_end(lambda: self._forget(pid, key))
        return codec.message(b"K", struct.pack("!I", pid) + key[0])

    def _forget(self, pid: int, key: tuple[bytes, Session]) -> None:
        self._keys[pid].remove(key)
        if not self._keys[pid]:
            del self._keys[pid]


def _without_end(body: bytes) -> bytes:
    if not body.endswith(b"\0"):
        raise WireError("a password message was due")
    return body[:-1]


_READY = codec.message(b"Z", b"I")
