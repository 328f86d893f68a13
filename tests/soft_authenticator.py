"""An authenticator in software, for what no browser would do: every field of its answers can be forged."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
"""User present, user verified, may be backed up, is backed up, holds a new credential."""


@dataclass
class SoftAuthenticator:
    """One key. `origin` is what its browser says, `rp_id` what it was made for; None: as it is asked."""

    origin: str
    rp_id: str | None = None
    count: int = 0
    flags: int = UP | UV
    counts: bool = True
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential: bytes = b"a credential of this key"

    def create(self, options: str, **client: Any) -> str:
        """The answer of navigator.credentials.create."""
        asked = json.loads(options)
        numbers = self.key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + struct.pack(">H", len(self.credential)) + self.credential
        data = self._data(asked["rp"]["id"], AT) + attested + cbor2.dumps(public)
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        response = {
            "clientDataJSON": bytes_to_base64url(self._client("webauthn.create", asked["challenge"], client)),
            "attestationObject": bytes_to_base64url(attestation),
            "transports": ["internal", "nonsense"],
        }
        return self._answer(response)

    def get(self, options: str, **client: Any) -> str:
        """The answer of navigator.credentials.get."""
        asked = json.loads(options)
        if self.counts:
            self.count += 1
        data = self._data(asked["rpId"], 0)
        said = self._client("webauthn.get", asked["challenge"], client)
        signed = self.key.sign(data + hashlib.sha256(said).digest(), ec.ECDSA(hashes.SHA256()))
        response = {
            "clientDataJSON": bytes_to_base64url(said),
            "authenticatorData": bytes_to_base64url(data),
            "signature": bytes_to_base64url(signed),
        }
        return self._answer(response)

    def _data(self, asked_for: str, more: int) -> bytes:
        rp = hashlib.sha256((self.rp_id or asked_for).encode()).digest()
        return rp + bytes([self.flags | more]) + struct.pack(">I", self.count)

    def _client(self, kind: str, challenge: str, more: dict[str, Any]) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False} | more
        return json.dumps(said).encode()

    def _answer(self, response: dict[str, Any]) -> str:
        name = bytes_to_base64url(self.credential)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def tampered(answer: str, where: str, change: Any) -> str:
    """The answer with one of its binary fields changed."""
    parts = json.loads(answer)
    data = bytearray(base64url_to_bytes(parts["response"][where]))
    parts["response"][where] = bytes_to_base64url(bytes(change(data)))
    return json.dumps(parts)
