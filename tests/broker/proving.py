"""A client's side of SCRAM at the gate, as far as the broker hears of it."""

from __future__ import annotations

import hashlib
import hmac

from workflows.scram import ITERATIONS, Proof, salt_of

MESSAGES = "n=,r=ab,r=abcd,s=c2FsdA==,i=4096,c=biws,r=abcd"


def proof_of(token: str, principal: str, messages: str = MESSAGES) -> Proof:
    """What a client that has the token says (RFC 5802, section 3)."""
    key = hmac.digest(_salted(token, principal), b"Client Key", "sha256")
    mask = hmac.digest(hashlib.sha256(key).digest(), messages.encode(), "sha256")
    return Proof(messages, bytes(a ^ b for a, b in zip(key, mask, strict=True)))


def answer_to(proof: Proof, token: str, principal: str) -> bytes:
    """The signature that the client then waits for."""
    key = hmac.digest(_salted(token, principal), b"Server Key", "sha256")
    return hmac.digest(key, proof.messages.encode(), "sha256")


def _salted(token: str, principal: str) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", token.encode(), salt_of(principal), ITERATIONS)
