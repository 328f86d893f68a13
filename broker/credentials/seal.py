"""Secrets at rest: AES-256-GCM in an envelope.

Each secret has a data key of its own, which the installation's key wraps; both layers are bound to the grant
(additional authenticated data), so that a sealed text moved to another row does not open. The first of the
installation's keys seals, the others still open: that is how a key is changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.keyfile import read_or_make

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D, 8.2.2: random nonces of 96 bits
TAG_BYTES = 16
_WRAPPED = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_VERSION = "v1"


class SealError(ValueError):
    """A sealed text does not open: made with a key that is not here, changed, or of another grant."""


class Seal:
    """`keys` are 32 bytes each; the first one seals."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a seal key is 32 bytes in base 64 (make one with: openssl rand -base64 32)")
        self._keys = {key_id(key): key for key in keys}
        self.current = key_id(keys[0])
        self._root = keys[-1]

    def __repr__(self) -> str:
        return f"Seal({self.current}, opens {len(self._keys)})"

    def knows(self, key: str) -> bool:
        return key in self._keys

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for `purpose`, from the oldest key: a newer one put first does not change it."""
        return hmac.digest(self._root, b"portcullis derived key\0" + purpose.encode(), "sha256")

    def close(self, secret: str, bound_to: str) -> str:
        """Seal a secret for `bound_to`."""
        data_key = AESGCM.generate_key(KEY_BYTES * 8)
        wrapped = _encrypt(self._keys[self.current], data_key, bound_to)
        content = _encrypt(data_key, secret.encode(), bound_to)
        return ".".join((_VERSION, self.current, base64.b64encode(wrapped + content).decode()))

    def open(self, sealed: str, bound_to: str) -> str:
        """The secret. Raises SealError."""
        try:
            version, key, text = sealed.split(".")
            blob = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error) as error:
            raise SealError("this is not a sealed secret") from error
        if version != _VERSION or key not in self._keys:
            raise SealError(f"sealed with the key {key}, which this broker does not have")
        try:
            data_key = _decrypt(self._keys[key], blob[:_WRAPPED], bound_to)
            return _decrypt(data_key, blob[_WRAPPED:], bound_to).decode()
        except (InvalidTag, ValueError) as error:
            raise SealError("the sealed secret was changed or belongs elsewhere") from error


def key_id(key: bytes) -> str:
    """A name for a key that tells nothing about it."""
    return hashlib.sha256(b"portcullis seal key id\0" + key).hexdigest()[:16]


def from_settings(text: str, data_dir: Path) -> Seal:
    """The seal of this installation: keys in base 64, separated by commas, or else the file `seal.key`.

    Raises ValueError where a key is malformed, PermissionError where others may read the file.
    """
    if not text:
        made = read_or_make(data_dir / "seal.key", lambda: base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
        text = ",".join(made.decode().split())
    try:
        return Seal([base64.b64decode(part, validate=True) for part in text.split(",")])
    except binascii.Error as error:
        raise ValueError(
            "a seal key is 32 bytes in base 64 (make one with: openssl rand -base64 32)"
        ) from error


def _encrypt(key: bytes, content: bytes, bound_to: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, bound_to.encode())


def _decrypt(key: bytes, blob: bytes, bound_to: str) -> bytes:
    return AESGCM(key).decrypt(blob[:NONCE_BYTES], blob[NONCE_BYTES:], bound_to.encode())
