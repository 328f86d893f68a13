"""SCRAM-SHA-256 as gate and broker share it: what is kept of a token, and the check of a proof of it.

The gate speaks with the client, the broker alone has the verifiers: so neither the token nor anything that
stands for it crosses between them. Sources: RFC 5802 (section 3 names the keys), RFC 7677.

A principal may have several good tokens, and SCRAM tells the salt before it is known which one is meant. So
all of one principal's have the same salt, which follows from the name: that a principal exists does not show
in it. A salt keeps guesses from being computed ahead; at 256 random bits nobody guesses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

ITERATIONS = 4096
"""RFC 7677's least, and PostgreSQL's own. More would slow clients down and stop no guess at 256 bits."""
_SIZE = 32


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is kept of a token: enough to check a proof of it, not enough to make one."""

    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a client said at the gate to prove that it has a token, good for this one exchange of messages.

    `messages` is RFC 5802's AuthMessage, with the nonces of both sides.
    """

    messages: str = field(repr=False)
    value: bytes = field(repr=False)


def salt_of(principal: str) -> bytes:
    """The salt of a principal's tokens, also of one that does not exist."""
    return hashlib.sha256(b"Portcullis SCRAM salt\0" + principal.encode("utf-8", "surrogatepass")).digest()[
        :16
    ]


def verifier(token: str, principal: str) -> Verifier:
    """What to keep of a token. Tokens are ASCII letters, of which SASLprep changes none."""
    salted = hashlib.pbkdf2_hmac("sha256", token.encode(), salt_of(principal), ITERATIONS)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    return Verifier(stored_key, _hmac(salted, b"Server Key"))


def signature(known: Verifier, proof: Proof) -> bytes | None:
    """The signature that shows the client that its proof was checked; None where the proof is wrong."""
    messages = proof.messages.encode()
    mask = _hmac(known.stored_key, messages)
    value = proof.value if len(proof.value) == _SIZE else bytes(_SIZE)
    client_key = bytes(a ^ b for a, b in zip(mask, value, strict=True))
    right = hmac.compare_digest(hashlib.sha256(client_key).digest(), known.stored_key)
    signed = _hmac(known.server_key, messages)
    return signed if right else None


def server_first(nonce: str, principal: str) -> str:
    """The server's first message, to a client's and the server's own nonce together."""
    salt = base64.b64encode(salt_of(principal)).decode()
    return f"r={nonce},s={salt},i={ITERATIONS}"


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
