"""Passkeys (W3C Web Authentication, levels 2 and 3): registering them, and having one sign what is decided.

A challenge is good for one answer of one browser's. What a key signs to decide is bound to what was shown:
the challenge is the SHA-256 of a nonce and of that, so that an answer for one decision is none for another.
User verification is always required; attestation is not asked for.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import msgspec
import structlog
import webauthn
from sqlalchemy.exc import IntegrityError
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from broker import audit, outbox
from broker.bus import OUTBOX
from broker.identity.kept import Keep, Kind
from broker.identity.web import WebSession
from broker.reading import Reading
from broker.store import passkeys as table
from broker.store.passkeys import Passkey
from workflows.model import Principal, Refusal

log = structlog.get_logger(__name__)

CHALLENGE_LIFETIME = timedelta(minutes=5)
RECENT = timedelta(minutes=10)
"""A login this young may change which keys there are."""
MOST_KEYS = 10
MAX_ANSWER = 16_384

LOGIN_AGAIN = Refusal(
    "login-again", "To change your passkeys you need a login of the last ten minutes.", "Log in again."
)
NOT_PROVEN = Refusal(
    "not-proven", "That passkey did not prove that it is you, so nothing was done.", "Try again, or another."
)
NO_PASSKEY = Refusal(
    "no-passkey", "You have no passkey yet.", "Register one on your account page, then come back."
)
CHANGED = Refusal("changed", "It has changed since it was shown, so nothing was decided.", "Look again.")
NO_NAME = Refusal(
    "no-host-name",
    "Passkeys need a host name: browsers give none to an address that is a number, or without https.",
    "Set PORTCULLIS_PUBLIC_URL to https://your-name (on one machine: http://localhost:PORT), and open that.",
)


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What the browser is asked: `options` is JSON for it, `secret` goes with its answer."""

    secret: str
    options: str


class _Asked(msgspec.Struct, frozen=True):
    challenge: str
    about: str


class Passkeys:
    def __init__(self, service: Reading) -> None:
        self._service = service
        self._keep = Keep(service.store, service.clock, service.chance)
        parts = urlsplit(service.public_url)
        self._rp = parts.hostname or ""
        self._origin = f"{parts.scheme}://{parts.netloc}"

    async def of(self, principal: str) -> list[Passkey]:
        async with self._service.store.read() as tx:
            return await table.of_person(tx, principal)

    # --------------------------------------------------------- registering

    async def begin_registration(self, person: Principal, session: WebSession) -> Ceremony | Refusal:
        """Ask the browser for a new key. Needs a login of now: an old session may be somebody else's."""
        if refusal := self._not_now(session):
            return refusal
        known = await self.of(person.id)
        challenge = hashlib.sha256(self._service.chance.token(32).encode()).digest()
        options = webauthn.generate_registration_options(
            rp_id=self._rp,
            rp_name="Portcullis",
            user_id=hashlib.sha256(person.id.encode()).digest(),
            user_name=person.email or person.id,
            user_display_name=person.name or person.id,
            challenge=challenge,
            timeout=int(CHALLENGE_LIFETIME.total_seconds() * 1000),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=_descriptors(known),
        )
        secret = await self._ask(person, session, challenge, "register")
        return Ceremony(secret, webauthn.options_to_json(options))

    async def register(
        self, person: Principal, session: WebSession, secret: str, answer: str, name: str
    ) -> Passkey | Refusal:
        """Keep the key that the browser made."""
        if refusal := self._not_now(session):
            return refusal
        asked = await self._asked(person, session, secret, "register")
        if isinstance(asked, Refusal):
            return asked
        try:
            made = webauthn.verify_registration_response(
                credential=_json(answer),
                expected_challenge=asked,
                expected_rp_id=self._rp,
                expected_origin=self._origin,
                require_user_verification=True,
            )
            _not_framed(answer)
        except Exception as error:  # whatever a hostile answer makes the parsers raise
            return await self._refused(person, "register", error)
        key = Passkey(
            id=self._service.chance.id("K"),
            principal=person.id,
            credential=bytes_to_base64url(made.credential_id),
            public_key=bytes_to_base64url(made.credential_public_key),
            sign_count=made.sign_count,
            name=" ".join(name.split())[:80] or "Passkey",
            transports=_transports(answer),
            synced=made.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
            made_at=self._service.clock.now(),
        )
        return await self._keep_key(person, key)

    async def remove(self, person: Principal, session: WebSession, key_id: str) -> Refusal | None:
        """Take one of one's own keys out."""
        if session.since < self._service.clock.now() - RECENT:
            return LOGIN_AGAIN
        users = await self._service.slack_users([person.id])
        async with self._service.store.write() as tx:
            if not await table.remove(tx, person.id, key_id):
                return Refusal("no-such-passkey", "There is no such passkey of yours.", "Look again.")
            now = self._service.clock.now()
            note = audit.Note("passkey.removed", person.id, {"passkey": key_id})
            await audit.append(tx, [note], at=now, actor=person.id, via="api")
            told = {"what": "passkey-removed", "principal": person.id, "key": key_id}
            await outbox.tell_accounts(tx, users.values(), told, now)
        await self._service.bus.publish(OUTBOX, "passkey")
        return None

    # ------------------------------------------------------------- proving

    async def begin(self, person: Principal, session: WebSession, about: str) -> Ceremony | Refusal:
        """Ask one of this person's keys to sign `about`, the digest of what they are shown."""
        if not self._named():
            return NO_NAME
        known = await self.of(person.id)
        if not known:
            return NO_PASSKEY
        nonce = self._service.chance.token(32)
        challenge = hashlib.sha256(f"{nonce}\0{about}".encode()).digest()
        options = webauthn.generate_authentication_options(
            rp_id=self._rp,
            challenge=challenge,
            timeout=int(CHALLENGE_LIFETIME.total_seconds() * 1000),
            allow_credentials=_descriptors(known),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        secret = await self._ask(person, session, challenge, about)
        return Ceremony(secret, webauthn.options_to_json(options))

    async def prove(
        self, person: Principal, session: WebSession, secret: str, about: str, answer: str
    ) -> Passkey | Refusal:
        """The key of this person's that signed `about` just now. A challenge is good for one try."""
        asked = await self._asked(person, session, secret, about)
        if isinstance(asked, Refusal):
            return asked
        credential = _json(answer)
        known = await self.of(person.id)
        key = next((key for key in known if key.credential == str(credential.get("id"))), None)
        if key is None:
            return await self._refused(person, "prove", ValueError("not a key of this person's"))
        try:
            found = webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=asked,
                expected_rp_id=self._rp,
                expected_origin=self._origin,
                credential_public_key=base64url_to_bytes(key.public_key),
                credential_current_sign_count=key.sign_count,
                require_user_verification=True,
            )
            _not_framed(answer)
        except Exception as error:  # whatever a hostile answer makes the parsers raise
            return await self._refused(person, "prove", error, key.id)
        async with self._service.store.write() as tx:
            if not await table.used(tx, key, found.new_sign_count, self._service.clock.now()):
                return NOT_PROVEN
        return key

    # ----------------------------------------------------------- the inside

    def _named(self) -> bool:
        """Whether browsers give passkeys to our address: a host name over https, or localhost."""
        try:
            ipaddress.ip_address(self._rp)
            return False
        except ValueError:
            return bool(self._rp) and (self._origin.startswith("https://") or self._rp == "localhost")

    def _not_now(self, session: WebSession) -> Refusal | None:
        if not self._named():
            return NO_NAME
        return LOGIN_AGAIN if session.since < self._service.clock.now() - RECENT else None

    async def _ask(self, person: Principal, session: WebSession, challenge: bytes, about: str) -> str:
        payload = msgspec.json.encode(_Asked(challenge.hex(), about)).decode()
        return await self._keep.put(
            Kind.CHALLENGE, CHALLENGE_LIFETIME, principal=person.id, label=session.mark, payload=payload
        )

    async def _asked(
        self, person: Principal, session: WebSession, secret: str, about: str
    ) -> bytes | Refusal:
        """The challenge that this browser was given for this; it is used up by the question."""
        kept = await self._keep.take(Kind.CHALLENGE, secret)
        if kept is None or kept.principal != person.id or kept.label != session.mark:
            return NOT_PROVEN
        asked = msgspec.json.decode(kept.payload, type=_Asked)
        return bytes.fromhex(asked.challenge) if asked.about == about else CHANGED

    async def _keep_key(self, person: Principal, key: Passkey) -> Passkey | Refusal:
        users = await self._service.slack_users([person.id])
        try:
            async with self._service.store.write() as tx:
                if len(await table.of_person(tx, person.id)) >= MOST_KEYS:
                    return Refusal("too-many", f"One has {MOST_KEYS} passkeys at most.", "Remove one first.")
                await table.add(tx, key)
                body = {"passkey": key.id, "name": key.name, "synced": key.synced}
                note = audit.Note("passkey.added", person.id, body)
                await audit.append(tx, [note], at=key.made_at, actor=person.id, via="api")
                told = {"what": "passkey-added", "principal": person.id, "key": key.name}
                await outbox.tell_accounts(tx, users.values(), told, key.made_at)
        except IntegrityError:
            return Refusal("known-passkey", "That passkey is registered already.", "Use another one.")
        await self._service.bus.publish(OUTBOX, "passkey")
        return key

    async def _refused(self, person: Principal, verb: str, error: Exception, key: str = "") -> Refusal:
        """Write down that somebody's answer was no proof; the reason holds nothing of theirs."""
        log.warning("passkey_refused", principal=person.id, why=f"{type(error).__name__}: {error}"[:200])
        async with self._service.store.write() as tx:
            body = {"verb": f"passkey-{verb}", "code": NOT_PROVEN.code, "why": str(error)[:200], "key": key}
            note = audit.Note("refused", person.id, body)
            now = self._service.clock.now()
            await audit.append(tx, [note], at=now, actor=person.id, via="api")
        return NOT_PROVEN


def _json(answer: str) -> dict[str, object]:
    """The browser's answer as an object; an empty one where it is none."""
    try:
        found = json.loads(answer[:MAX_ANSWER])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _not_framed(answer: str) -> None:
    """Raise ValueError where the answer was made in a frame of another site's page (level 3, 5.8.1)."""
    response = _json(answer).get("response")
    data = response.get("clientDataJSON") if isinstance(response, dict) else None
    if json.loads(base64url_to_bytes(str(data))).get("crossOrigin"):
        raise ValueError("made inside another site's page")


def _transports(answer: str) -> str:
    """How the key is reached, of the words that are known, to help the browser find it again."""
    response = _json(answer).get("response")
    said = response.get("transports") if isinstance(response, dict) else None
    known = {transport.value for transport in AuthenticatorTransport}
    return " ".join(sorted(known & {str(one) for one in said})) if isinstance(said, list) else ""


def _descriptors(keys: list[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=base64url_to_bytes(key.credential),
            transports=[AuthenticatorTransport(word) for word in key.transports.split()] or None,
        )
        for key in keys
    ]
