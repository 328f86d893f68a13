"""Entity tags of answers that are masked: sealed, because many are hashes of the clear body.

Whoever guesses a masked value could try each guess against such a hash. The sealed tag is one of the same
resource in the same state (RFC 9110, section 8.8.3), so that If-Match and If-None-Match go on working; only
the gate can open it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_TAG = re.compile(rb'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_OURS = b"pc."


class Tags:
    """Seals and opens tags by a key of the session's masks (RFC 5297: equal tags stay equal)."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(hmac.digest(key, b"entity tags", hashlib.sha512))

    def sealed(self, tag: bytes) -> bytes:
        """An ETag field's value as the client sees it."""
        found = _TAG.fullmatch(tag)
        weak, inside = (found[1] or b"", found[2]) if found else (b"", tag)
        sealed = base64.urlsafe_b64encode(self._cipher.encrypt(inside or b"-", None)).rstrip(b"=")
        return b'%b"%b%b"' % (weak, _OURS, sealed)

    def opened(self, value: bytes) -> bytes:
        """If-Match or If-None-Match as the service knows it. What the gate has not sealed matches nothing, or
        guesses could be tried.
        """
        if value.strip() == b"*":
            return value
        return b", ".join(self._opened(weak, inside) for weak, inside in _TAG.findall(value)) or b'"-"'

    def _opened(self, weak: bytes, inside: bytes) -> bytes:
        sealed = inside.removeprefix(_OURS)
        try:
            plain = self._cipher.decrypt(base64.urlsafe_b64decode(sealed + b"=" * (-len(sealed) % 4)), None)
        except (InvalidTag, binascii.Error, ValueError):
            return b'"%b"' % hashlib.sha256(inside).hexdigest().encode()
        return b'%b"%b"' % (weak, plain)
