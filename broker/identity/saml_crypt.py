"""Opening encrypted assertions: RSA-OAEP for the key, AES-GCM for the assertion.

AES-CBC, which many providers still use, says by how it fails what the clear text is like (Jager and
Somorovsky, “How To Break XML Encryption”, 2011). It is opened only inside a response whose signature was
verified first, so that nobody but the provider can send something to be opened. RSA with PKCS #1 v1.5 padding
is never opened. Source: XML Encryption 1.1 (W3C).
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding as asymmetric
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from broker.identity.saml_xml import DS, Element, refused

XENC = "{http://www.w3.org/2001/04/xmlenc#}"
OAEP = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
XENC11 = "{http://www.w3.org/2009/xmlenc11#}"
_GCM = {"http://www.w3.org/2009/xmlenc11#aes128-gcm": 16, "http://www.w3.org/2009/xmlenc11#aes256-gcm": 32}
_CBC = {"http://www.w3.org/2001/04/xmlenc#aes128-cbc": 16, "http://www.w3.org/2001/04/xmlenc#aes256-cbc": 32}
_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    # OAEP needs no hash that resists collisions, and many providers know no other.
    "http://www.w3.org/2000/09/xmldsig#sha1": hashes.SHA1(),  # noqa: S303
    "http://www.w3.org/2001/04/xmlenc#sha256": hashes.SHA256(),
    "http://www.w3.org/2001/04/xmlenc#sha512": hashes.SHA512(),
}
_MASKS: dict[str, hashes.HashAlgorithm] = {
    "http://www.w3.org/2009/xmlenc11#mgf1sha1": hashes.SHA1(),  # noqa: S303
    "http://www.w3.org/2009/xmlenc11#mgf1sha256": hashes.SHA256(),
    "http://www.w3.org/2009/xmlenc11#mgf1sha512": hashes.SHA512(),
}


def opened(encrypted: Element, key: RSAPrivateKey, *, vouched: bool) -> bytes:
    """The clear text of an EncryptedAssertion; `vouched` says that a verified signature is around it.

    Raises LoginError, with the same words whatever was wrong with the ciphers.
    """
    data = encrypted.findall(XENC + "EncryptedData")
    keys = list(encrypted.iter(XENC + "EncryptedKey"))
    if len(data) != 1 or len(keys) != 1:
        raise refused("what is encrypted in it has another form")
    method = _method(data[0])
    size = _GCM.get(method) or _CBC.get(method)
    if size is None:
        raise refused("it is encrypted in a way that is not opened here")
    if method in _CBC and not vouched:
        raise refused("it is encrypted by AES-CBC and the response is not signed")
    oaep = _oaep(keys[0])
    try:
        secret = key.decrypt(_value(keys[0]), oaep)
        if len(secret) != size:
            raise ValueError
        return _clear(method, secret, _value(data[0]))
    except (ValueError, InvalidTag, binascii.Error):
        raise refused("it cannot be decrypted") from None


def _clear(method: str, secret: bytes, value: bytes) -> bytes:
    if method in _GCM:
        return AESGCM(secret).decrypt(value[:12], value[12:], None)
    decryptor = Cipher(AES(secret), CBC(value[:16])).decryptor()
    padded = decryptor.update(value[16:]) + decryptor.finalize()
    if not padded or not 1 <= padded[-1] <= 16:  # ISO 10126: only the last byte says anything
        raise ValueError
    return padded[: -padded[-1]]


def _oaep(key: Element) -> asymmetric.OAEP:
    method = _method(key)
    if method == OAEP:
        mask: hashes.HashAlgorithm | None = hashes.SHA1()  # noqa: S303
    elif method == XENC11.strip("{}") + "rsa-oaep":
        named = next(key.iter(XENC11 + "MGF"), None)
        usual = "http://www.w3.org/2009/xmlenc11#mgf1sha1"
        mask = _MASKS.get(usual if named is None else named.get("Algorithm"))
    else:
        raise refused("its key is encrypted in a way that is not opened here")
    named = next(key.iter(DS + "DigestMethod"), None)
    sha1 = "http://www.w3.org/2000/09/xmldsig#sha1"
    digest = _DIGESTS.get(sha1 if named is None else named.get("Algorithm"))
    if mask is None or digest is None:
        raise refused("its key is encrypted in a way that is not opened here")
    return asymmetric.OAEP(asymmetric.MGF1(mask), digest, None)


def _method(element: Element) -> str:
    method = element.find(XENC + "EncryptionMethod")
    return "" if method is None else str(method.get("Algorithm", ""))


def _value(element: Element) -> bytes:
    found = element.find(f"{XENC}CipherData/{XENC}CipherValue")
    if found is None or not found.text:
        raise ValueError
    return base64.b64decode("".join(found.text.split()), validate=True)
