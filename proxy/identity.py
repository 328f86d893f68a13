"""Who a gate on another machine is: a key that never leaves it, and a certificate of the broker's, renewed.

All of it is one file that is written whole, so that a crash leaves the former or the next; the processes of
one gate read the same. Sources: RFC 2986 (certification requests), RFC 8446 (TLS 1.3).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.files import write_whole
from workflows import gate_wire as wire

AGAIN_AFTER = 60.0
"""Seconds until a renewal that failed is tried again."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class NotJoined(Exception):
    """This gate has no certificate, and could not get one; the text says why."""


class TurnedAway(NotJoined):
    """The broker said no."""


class Kept(msgspec.Struct, frozen=True):
    """What the file holds. `next_key` is one that a certificate was asked for and that has none yet.
    `renew_at` is by this machine's clock (seconds since the epoch).
    """

    next_key: str = ""
    key: str = ""
    certificate: str = ""
    trusted: str = ""
    gate: str = ""
    door: str = ""
    renew_at: float = 0.0


class GateIdentity:
    """The identity in `folder`, as its file says now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "broker.json"

    @property
    def stamp(self) -> int:
        """Another number for another state of the file; 0 where there is none."""
        try:
            return self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    @property
    def kept(self) -> Kept:
        """Raises ValueError for a file that is none of ours."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except msgspec.MsgspecError:
            raise ValueError(
                f"{self._file} is not an identity of a gate; remove it and join again."
            ) from None

    @property
    def joined(self) -> bool:
        return bool(self.kept.certificate)

    @property
    def due(self) -> bool:
        """Whether it is time for the next certificate."""
        return time.time() >= self.kept.renew_at

    @property
    def good(self) -> bool:
        """Whether our certificate has not ended."""
        shown = x509.load_pem_x509_certificate(self.kept.certificate.encode())
        return dt.datetime.now(dt.UTC) < shown.not_valid_after_utc

    def context(self) -> ssl.SSLContext:
        """TLS to the broker's door: with our certificate, and trusting the gates' authorities alone."""
        it = self.kept
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=it.trusted)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".pem") as file:  # made with mode 0600
            file.write((it.certificate + it.key).encode())
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def client(self, timeout: float) -> httpx2.AsyncClient:
        """An HTTP client for the broker's door."""

        async def by_its_name(request: httpx2.Request) -> None:
            request.extensions["sni_hostname"] = wire.DOOR_NAME

        return httpx2.AsyncClient(
            base_url=self.kept.door,
            verify=self.context(),
            headers={"Content-Type": "application/json"},
            timeout=timeout,
            trust_env=False,
            event_hooks={"request": [by_its_name]},
        )

    # ------------------------------------------------------- from the broker

    async def begin(self, broker: str, token: str) -> str:
        """Be known to the broker by the certificate that there is, or else by a join token. Returns what did
        not go well and may yet: the broker is away. Raises NotJoined.
        """
        if self.joined and self.good:
            try:
                await self.renew()
                return ""
            except TurnedAway:
                if not token:
                    raise
            except NotJoined as error:
                return str(error)
        if not (broker and token):
            raise NotJoined(
                "A gate alone joins its broker first, with PORTCULLIS_BROKER_URL and PORTCULLIS_GATE_JOIN as "
                "access gates add prints them."
            )
        await self.join(broker, token)
        return ""

    async def join(self, broker: str, token: str) -> None:
        """Get the first certificate for a join token. `broker` is the broker's public address.

        Raises NotJoined.
        """
        parts = urlsplit(broker)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise NotJoined(f"A gate reaches its broker by https, not by {broker}")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        request = self._request()
        try:
            async with httpx2.AsyncClient(base_url=broker, timeout=15.0, trust_env=False) as http:
                answer = await http.post("/gate/join", content=wire.encode(wire.JoinQuestion(token, request)))
                self._take(answer)
        except (httpx2.HTTPError, msgspec.MsgspecError) as error:
            raise NotJoined(f"The broker at {broker} does not answer ({type(error).__name__}).") from None

    async def renew(self) -> None:
        """Get the next certificate over a connection with the last. Raises NotJoined."""
        request = self._request()
        try:
            async with self.client(15.0) as http:
                answer = await http.post("/gate/identity", content=wire.encode(wire.RenewalQuestion(request)))
                self._take(answer)
        except (httpx2.HTTPError, msgspec.MsgspecError, OSError) as error:
            raise NotJoined(f"The broker does not answer ({type(error).__name__}).") from None

    async def keep(self, log: Callable[..., None]) -> None:
        """Renew in time, for ever; `log` is told what did not go well."""
        while True:
            await asyncio.sleep(max(0.0, min(self.kept.renew_at - time.time(), AGAIN_AFTER)))
            if not self.due:
                continue
            try:
                await self.renew()
            except NotJoined as error:
                log("the gate's certificate was not renewed", why=str(error))
                await asyncio.sleep(AGAIN_AFTER)

    # ----------------------------------------------------------- the inside

    def _request(self) -> str:
        """A certification request for a new key, that is on disk before it is asked for: asked again after a
        crash, it is for the same key.
        """
        it = self.kept
        if not it.next_key:
            made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            it = msgspec.structs.replace(it, next_key=made.decode())
            self._write(it)
        key = serialization.load_pem_private_key(it.next_key.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        return asked.public_bytes(serialization.Encoding.PEM).decode()

    def _take(self, answer: httpx2.Response) -> None:
        if answer.status_code != 200:
            raise TurnedAway(_why(answer))
        it, now = wire.decode_identity_answer(answer.content), time.time()
        key = self.kept.next_key
        self._write(
            Kept("", key, it.certificate, it.trusted, it.gate, it.door, renew_at=now + it.seconds / 2)
        )

    def _write(self, it: Kept) -> None:
        write_whole(self._file, msgspec.json.encode(it))


def _why(answer: httpx2.Response) -> str:
    """What the broker says against it, in its own words where it has some."""
    try:
        said = answer.json()
        return f"{said['why']} {said['way_out']}".strip()
    except (ValueError, KeyError, TypeError):
        return f"The broker answered {answer.status_code}."
