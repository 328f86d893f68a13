"""The broker as a SAML 2.0 service provider: asks by redirect, hears by POST.

An answer is verified when it comes, and kept for the browser that asked: a POST from another site brings no
cookie of ours along, so that browser picks it up by one more redirect, with the cookie that it began with.
Sources: SAML bindings 2.0 sections 3.4 (HTTP Redirect) and 3.5 (HTTP POST), SAML profiles 2.0 section 4.1.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import cast
from urllib.parse import urlencode

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID
from lxml import etree

from broker.clock import Chance, Clock
from broker.config import SamlSettings
from broker.identity import saml_crypt, saml_xml
from broker.identity.answer import Identity, LoginError, Sent
from broker.identity.kept import Keep, Kind
from broker.identity.saml_assertion import Heard, Us, check_assertion, check_response
from broker.identity.saml_xml import refused

POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
ANSWER_LIFETIME = timedelta(minutes=2)
_NAMES = {
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


class _Answered(msgspec.Struct, frozen=True):
    identity: Identity
    request: str


class SamlLogin:
    def __init__(
        self, settings: SamlSettings, public_url: str, keep: Keep, clock: Clock, chance: Chance
    ) -> None:
        base = f"{public_url}/auth/saml/{settings.name}"
        self.settings = settings
        self.us = Us(f"{base}/metadata", f"{base}/acs")
        self._keep = keep
        self._clock = clock
        self._chance = chance
        self._key = _key(settings)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def begin(self, callback: str) -> Sent:
        request = f"_{self._chance.token(24)}"
        root = etree.Element(_tag("samlp", "AuthnRequest"), nsmap=_nsmap("samlp", "saml"))
        root.set("ID", request)
        root.set("Version", "2.0")
        root.set("IssueInstant", self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        root.set("Destination", self.settings.sign_in)
        root.set("AssertionConsumerServiceURL", self.us.acs)
        root.set("ProtocolBinding", POST)
        etree.SubElement(root, _tag("saml", "Issuer")).text = self.us.entity
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(etree.tostring(root)) + packer.flush()
        query = urlencode({"SAMLRequest": base64.b64encode(packed).decode()})
        join = "&" if "?" in self.settings.sign_in else "?"
        return Sent(f"{self.settings.sign_in}{join}{query}", request)

    async def finish(self, begun: str, answer: Mapping[str, str]) -> Identity:
        """Who has come, from what `accept` has kept, where it answers the request of this login."""
        answered = await self._take(answer.get("answer", ""))
        if answered.request != begun:
            raise LoginError("The answer belongs to another login.")
        return answered.identity

    async def unsolicited(self, secret: str) -> Identity:
        """Who has come without having begun here."""
        answered = await self._take(secret)
        if answered.request or not self.settings.idp_initiated:
            raise LoginError("This login was not begun here.", "Start at our own page: log in.")
        return answered.identity

    async def groups_of(self, subject: str, email: str) -> tuple[str, ...] | None:
        return None

    async def accept(self, response: str) -> tuple[str, bool]:
        """Verify what was posted, and keep it; the secret by which its browser gets it, and whether it
        answers a request. Works once, at whichever broker. Raises LoginError.
        """
        heard = self._heard(response)
        if not heard.request and not self.settings.idp_initiated:
            raise LoginError("This login was not begun here.", "Start at our own page: log in.")
        if not await self._keep.first_time(f"saml {self.settings.entity} {heard.id}", heard.until):
            raise LoginError("This answer was used before.", "Start again.")
        payload = msgspec.json.encode(_Answered(heard.identity, heard.request)).decode()
        secret = await self._keep.put(Kind.ANSWER, ANSWER_LIFETIME, label=self.settings.name, payload=payload)
        return secret, bool(heard.request)

    def metadata(self) -> bytes:
        """What an identity provider is told about us (SAML metadata 2.0)."""
        root = etree.Element(_tag("md", "EntityDescriptor"), nsmap=_nsmap("md", "ds"))
        root.set("entityID", self.us.entity)
        role = etree.SubElement(root, _tag("md", "SPSSODescriptor"))
        role.set("protocolSupportEnumeration", _NAMES["samlp"])
        role.set("AuthnRequestsSigned", "false")
        role.set("WantAssertionsSigned", "true")
        if self._key is not None:
            use = etree.SubElement(role, _tag("md", "KeyDescriptor"), use="encryption")
            data = etree.SubElement(etree.SubElement(use, _tag("ds", "KeyInfo")), _tag("ds", "X509Data"))
            etree.SubElement(data, _tag("ds", "X509Certificate")).text = _certificate(self._key)
            for method in ("http://www.w3.org/2009/xmlenc11#aes256-gcm", saml_crypt.OAEP):
                etree.SubElement(use, _tag("md", "EncryptionMethod"), Algorithm=method)
        acs = etree.SubElement(role, _tag("md", "AssertionConsumerService"))
        acs.set("Binding", POST)
        acs.set("Location", self.us.acs)
        acs.set("index", "0")
        acs.set("isDefault", "true")
        return cast(bytes, etree.tostring(root, xml_declaration=True, encoding="UTF-8"))

    async def _take(self, secret: str) -> _Answered:
        kept = await self._keep.take(Kind.ANSWER, secret) if secret else None
        if kept is None or kept.label != self.settings.name:
            raise LoginError("This answer took too long, or was used before.", "Start again.")
        return msgspec.json.decode(kept.payload, type=_Answered)

    def _heard(self, response: str) -> Heard:
        try:
            data = base64.b64decode("".join(response.split()), validate=True)
        except (binascii.Error, ValueError):
            raise refused("it is not base 64") from None
        certificates = self.settings.certificates
        it = saml_xml.signed(saml_xml.parse(data), certificates)
        check_response(it, self.settings, self.us)
        assertion = it.assertion
        if it.encrypted is not None:
            if self._key is None:
                raise refused("it is encrypted, and no key is set up here")
            vouched = it.response is not None
            clear = saml_xml.parse(saml_crypt.opened(it.encrypted, self._key, vouched=vouched))
            assertion = saml_xml.signed_assertion(clear, certificates, vouched=vouched)
        return check_assertion(assertion, self.settings, self.us, self._clock.now())


def _key(settings: SamlSettings) -> RSAPrivateKey | None:
    if settings.key is None:
        return None
    try:
        key = serialization.load_pem_private_key(settings.key.read().encode(), None)
    except (LookupError, ValueError, TypeError):
        raise LoginError(f"{settings.title} is not set up: its key cannot be read.") from None
    if not isinstance(key, RSAPrivateKey):
        raise LoginError(f"{settings.title} is not set up: its key is not of RSA.")
    return key


def _certificate(key: RSAPrivateKey) -> str:
    """A certificate of our key in which only the key counts; always the same."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portcullis")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(digest.finalize()[:16]) >> 1 | 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


def _tag(prefix: str, name: str) -> str:
    return f"{{{_NAMES[prefix]}}}{name}"


def _nsmap(*prefixes: str) -> dict[str | None, str]:
    return {prefix: _NAMES[prefix] for prefix in prefixes}
