"""A SAML identity provider for tests. It signs by signxml, and says whatever a test has it say.

Its answers have the form of those of Okta and Entra ID (learn.microsoft.com/entra/identity-platform/
single-sign-on-saml-protocol, developer.okta.com/docs/concepts/saml): a Response with one Assertion, an
enveloped signature over either or both with exclusive canonicalization, attributes with string values.
"""

from __future__ import annotations

import base64
import os
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape, quoteattr

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import DigestAlgorithm, SignatureMethod, XMLSigner

ENTITY = "https://idp.example.com/saml"
GROUPS = "http://schemas.example.com/groups"
EMAIL = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
NS = {
    "p": "urn:oasis:names:tc:SAML:2.0:protocol",
    "a": "urn:oasis:names:tc:SAML:2.0:assertion",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


def key_pair() -> tuple[rsa.RSAPrivateKey, str]:
    """A key and its certificate (PEM), as providers make them: signed by itself, for years."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.example.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return key, made.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Saying:
    """What an answer says. Every field is what an honest one says until a test changes it."""

    now: datetime
    request: str
    acs: str
    audience: str
    subject: str = "00u1ada"
    format: str = PERSISTENT
    email: str = "ada@example.com"
    groups: tuple[str, ...] = ("prod-engineers",)
    issuer: str = ENTITY
    destination: str | None = None
    recipient: str | None = None
    not_before: timedelta = timedelta(minutes=-5)
    not_after: timedelta = timedelta(minutes=5)
    status: str = "urn:oasis:names:tc:SAML:2.0:status:Success"
    session: str = "_session1"
    assertion_id: str = field(default_factory=lambda: f"_a{os.urandom(8).hex()}")
    response_id: str = field(default_factory=lambda: f"_r{os.urandom(8).hex()}")
    condition: str = ""
    more: str = ""


def asked(address: str) -> tuple[str, str]:
    """The id and the assertion consumer service of the request in a redirect."""
    packed = base64.b64decode(parse_qs(urlsplit(address).query)["SAMLRequest"][0])
    root = etree.fromstring(zlib.decompress(packed, -15))
    return root.get("ID"), root.get("AssertionConsumerServiceURL")


class SamlIdp:
    def __init__(self) -> None:
        self.key, self.certificate = key_pair()

    def assertion(self, it: Saying) -> str:
        """The assertion, not signed."""
        start, end = stamp(it.now + it.not_before), stamp(it.now + it.not_after)
        answers = f" InResponseTo={quoteattr(it.request)}" if it.request else ""
        recipient = it.acs if it.recipient is None else it.recipient
        groups = "".join(f"<a:AttributeValue>{escape(name)}</a:AttributeValue>" for name in it.groups)
        return (
            f'<a:Assertion xmlns:a="{NS["a"]}" ID="{it.assertion_id}" Version="2.0" '
            f'IssueInstant="{stamp(it.now)}"><a:Issuer>{escape(it.issuer)}</a:Issuer>'
            f"<a:Subject><a:NameID Format={quoteattr(it.format)}>{escape(it.subject)}</a:NameID>"
            '<a:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">'
            f"<a:SubjectConfirmationData{answers} Recipient={quoteattr(recipient)} "
            f'NotOnOrAfter="{end}"/></a:SubjectConfirmation></a:Subject>'
            f'<a:Conditions NotBefore="{start}" NotOnOrAfter="{end}"><a:AudienceRestriction>'
            f"<a:Audience>{escape(it.audience)}</a:Audience></a:AudienceRestriction>{it.condition}"
            f"</a:Conditions><a:AuthnStatement AuthnInstant={quoteattr(stamp(it.now))} "
            f'SessionIndex="{it.session}"><a:AuthnContext><a:AuthnContextClassRef>'
            "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
            "</a:AuthnContextClassRef></a:AuthnContext></a:AuthnStatement><a:AttributeStatement>"
            f'<a:Attribute Name="{EMAIL}"><a:AttributeValue>{escape(it.email)}</a:AttributeValue>'
            f'</a:Attribute><a:Attribute Name="{GROUPS}">{groups}</a:Attribute></a:AttributeStatement>'
            f"{it.more}</a:Assertion>"
        )

    def response(self, it: Saying, inside: str) -> str:
        """The response around an assertion, not signed."""
        answers = f" InResponseTo={quoteattr(it.request)}" if it.request else ""
        destination = it.acs if it.destination is None else it.destination
        return (
            f'<p:Response xmlns:p="{NS["p"]}" xmlns:a="{NS["a"]}" ID="{it.response_id}" Version="2.0" '
            f'IssueInstant="{stamp(it.now)}" Destination={quoteattr(destination)}{answers}>'
            f"<a:Issuer>{escape(it.issuer)}</a:Issuer><p:Status><p:StatusCode "
            f"Value={quoteattr(it.status)}/></p:Status>{inside}</p:Response>"
        )

    def sign(
        self,
        xml: str,
        *,
        method: SignatureMethod = SignatureMethod.RSA_SHA256,
        digest: DigestAlgorithm = DigestAlgorithm.SHA256,
    ) -> str:
        """The same with an enveloped signature behind its Issuer, where SAML has it."""
        root = etree.fromstring(xml)
        issuer = root.find("a:Issuer", NS)
        place = etree.Element(f"{{{NS['ds']}}}Signature", Id="placeholder", nsmap={"ds": NS["ds"]})
        issuer.addnext(place)
        signer = XMLSigner(
            signature_algorithm=method,
            digest_algorithm=digest,
            c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#",
        )
        done = signer.sign(root, key=self.key, cert=self.certificate, reference_uri=f"#{root.get('ID')}")
        return etree.tostring(done).decode()

    def encrypt(self, assertion: str, to: rsa.RSAPublicKey, method: str = "aes256-gcm") -> str:
        """An EncryptedAssertion around it, by RSA-OAEP and AES-GCM or AES-CBC."""
        clear, secret = assertion.encode(), os.urandom(32)
        if method == "aes256-gcm":
            nonce = os.urandom(12)
            value = nonce + AESGCM(secret).encrypt(nonce, clear, None)
            algorithm = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
        else:
            start, fill = os.urandom(16), 16 - len(clear) % 16
            encryptor = Cipher(AES(secret), CBC(start)).encryptor()
            padded = clear + os.urandom(fill - 1) + bytes([fill])
            value = start + encryptor.update(padded) + encryptor.finalize()
            algorithm = "http://www.w3.org/2001/04/xmlenc#aes256-cbc"
        oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        wrapped = base64.b64encode(to.encrypt(secret, oaep)).decode()
        return (
            f'<a:EncryptedAssertion xmlns:a="{NS["a"]}">'
            '<e:EncryptedData xmlns:e="http://www.w3.org/2001/04/xmlenc#" '
            'Type="http://www.w3.org/2001/04/xmlenc#Element">'
            f'<e:EncryptionMethod Algorithm="{algorithm}"/><d:KeyInfo xmlns:d="{NS["ds"]}"><e:EncryptedKey>'
            '<e:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p">'
            '<d:DigestMethod Algorithm="http://www.w3.org/2000/09/xmldsig#sha1"/></e:EncryptionMethod>'
            f"<e:CipherData><e:CipherValue>{wrapped}</e:CipherValue></e:CipherData></e:EncryptedKey>"
            f"</d:KeyInfo><e:CipherData><e:CipherValue>{base64.b64encode(value).decode()}"
            "</e:CipherValue></e:CipherData></e:EncryptedData></a:EncryptedAssertion>"
        )


def posted(xml: str) -> str:
    """As the form field holds it."""
    return base64.b64encode(xml.encode()).decode()


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
