"""The gate's side of SCRAM-SHA-256(-PLUS) with a client: messages in and out, without I/O.

The gate holds nobody's verifier: it takes the client's proof, which the broker checks. With channel binding
(tls-server-end-point) the proof holds for the gate's own certificate only, so whoever stands in between
cannot use it. Sources: RFC 5802, RFC 5929 section 4.1, RFC 7677; PostgreSQL documentation, "SASL
Authentication".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import struct

from proxy.postgres import codec
from proxy.postgres.codec import WireError
from workflows.scram import Proof, server_first

PLAIN = "SCRAM-SHA-256"
PLUS = "SCRAM-SHA-256-PLUS"
BINDING = "tls-server-end-point"

_INT = struct.Struct("!I")
_FIRST = re.compile(
    r"(?P<header>(?P<flag>p=(?P<binding>[A-Za-z0-9.-]+)|y|n),(?P<other>[^,]*),)"
    r"(?P<bare>n=[^,]*,r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]*)*)"
)
_FINAL = re.compile(
    r"(?P<without>c=(?P<binding>[A-Za-z0-9+/=]*),r=(?P<nonce>[^,]*)(?:,[A-Za-oq-z]=[^,]*)*)"
    r",p=(?P<proof>[A-Za-z0-9+/=]*)"
)


class Misled(Exception):
    """The client believes that it speaks to another server, or one that can less: somebody stands between."""


class Exchange:
    """One client's login. `end_point` is the hash of the gate's certificate; empty: it offers no binding."""

    def __init__(self, principal: str, end_point: bytes, nonce: str) -> None:
        self._principal = principal
        self._end_point = end_point
        self._nonce = nonce
        self._header = ""
        self._bound = b""
        self._messages = ""

    @property
    def offer(self) -> bytes:
        """AuthenticationSASL: what the gate can."""
        names = (PLUS, PLAIN) if self._end_point else (PLAIN,)
        return codec.message(b"R", _INT.pack(10) + b"".join(name.encode() + b"\0" for name in names) + b"\0")

    def first(self, body: bytes) -> bytes:
        """The answer to a SASLInitialResponse. Raises WireError, Misled."""
        name, at = codec.cstring(body, 0)
        said = body[at + 4 :]
        if body[at : at + 4] != _INT.pack(len(said)):
            raise WireError("a SASLInitialResponse without its first message")
        it = _FIRST.fullmatch(_text(said))
        if it is None or it["other"]:
            raise WireError("the client's first SCRAM message cannot be read")
        self._choose(name.decode("utf-8", "replace"), it["flag"], it["binding"])
        self._header = it["header"]
        self._nonce = it["nonce"] + self._nonce
        answer = server_first(self._nonce, self._principal)
        self._messages = f"{it['bare']},{answer}"
        return codec.message(b"R", _INT.pack(11) + answer.encode())

    def _choose(self, mechanism: str, flag: str, binding: str | None) -> None:
        if mechanism == PLUS and self._end_point:
            if binding != BINDING:
                raise WireError(f"{PLUS} is spoken here with {BINDING} only")
            self._bound = self._end_point
        elif mechanism != PLAIN or binding is not None:
            raise WireError("the client chose what was not offered, or binds what it chose not to bind")
        elif flag == "y" and self._end_point:
            raise Misled("the client was told that this gate cannot bind a login to its certificate")

    def final(self, body: bytes) -> Proof:
        """The proof in a SASLResponse, for the broker. Raises WireError, Misled."""
        it = _FINAL.fullmatch(_text(body))
        if it is None:
            raise WireError("the client's last SCRAM message cannot be read")
        if not hmac.compare_digest(it["nonce"].encode(), self._nonce.encode()):
            raise WireError("the client's last SCRAM message belongs to another login")
        if not hmac.compare_digest(_bytes(it["binding"]), self._header.encode() + self._bound):
            raise Misled("the login is bound to another certificate than this gate's")
        return Proof(f"{self._messages},{it['without']}", _bytes(it["proof"]))


def accepted(signature: bytes) -> bytes:
    """AuthenticationSASLFinal: the proof was checked by who knows the token."""
    return codec.message(b"R", _INT.pack(12) + b"v=" + base64.b64encode(signature))


def _text(said: bytes) -> str:
    try:
        return said.decode()
    except UnicodeDecodeError as error:
        raise WireError("a SCRAM message is not UTF-8") from error


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise WireError("a SCRAM message is not in base 64") from error
