"""What a masked value is replaced by, value by value.

The pseudonym keeps the look of a value: each letter becomes a letter of the same case, each digit a digit,
everything else stays. Equal values become equal pseudonyms under one key, so joins still join; without the
key nothing leads back. Length, punctuation and the count of digits show. It is no encryption: two values may
share a pseudonym, the more easily the shorter they are.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache, partial
from string import ascii_lowercase, ascii_uppercase, digits
from struct import Struct

# What replaces a value: fixed bytes, None for NULL, or a function of the value's bytes.
Function = Callable[[bytes], bytes | None]
Replacement = bytes | None | Function

FULL = b"***"


def last4(value: bytes) -> bytes:
    """ "***" and the last four characters; of a short value nothing, since four would be most of it."""
    text = value.decode("utf-8", "replace")
    return FULL + text[-4:].encode() if len(text) >= 8 else FULL


def email(value: bytes) -> bytes:
    """The first letter of an address: a***@***. What is no address is masked in full."""
    name, at, _ = value.decode("utf-8", "replace").rpartition("@")
    return f"{name[0]}***@***".encode() if at and len(name) > 1 else FULL


@lru_cache(maxsize=256)
def hasher(key: bytes) -> Function:
    """16 hexadecimal digits of HMAC-SHA256."""
    prepared = hmac.new(key, digestmod=hashlib.sha256)

    def pseudonym(value: bytes) -> bytes:
        one = prepared.copy()
        one.update(value)
        return one.hexdigest()[:16].encode()

    return pseudonym


# ---------------------------------------------------------------- pseudonyms


@lru_cache(maxsize=256)
def pseudonym(key: bytes, type_oid: int, binary: bool) -> Function | None:
    """The pseudonym of values of a type (pg_type.dat) in one wire format. None where there is none."""
    number = partial(_number, key)
    if type_oid in _TEXTS:
        return _kept(partial(_text, key))
    if type_oid in _INTEGERS:
        layout = _INTEGERS[type_oid]
        return _kept(partial(_integer, number, layout) if binary else partial(_integer_text, number, layout))
    if type_oid == _UUID:
        return _kept(partial(_uuid, key, binary))
    if type_oid == _DATE:
        return _kept(partial(_date, number, binary))
    return _kept(partial(_text, key)) if type_oid == _NUMERIC and not binary else None


def _kept(function: Function) -> Function:
    return lru_cache(maxsize=4096)(function)


_TEXTS = frozenset({25, 1043, 1042})
_INTEGERS = {21: Struct(">h"), 23: Struct(">i"), 20: Struct(">q")}
_UUID, _DATE, _NUMERIC = 2950, 1082, 1700


def _stream(key: bytes, value: bytes, size: int) -> bytes:
    """`size` bytes that follow from key and value (HMAC-SHA256 in counter mode)."""
    seed = hmac.digest(key, b"pseudonym\0" + value, "sha256")
    blocks = (hmac.digest(seed, bytes([i & 255, i >> 8]), "sha256") for i in range((size + 31) // 32))
    return b"".join(blocks)[:size]


def _number(key: bytes, value: bytes, count: int) -> int:
    """A number below `count` that follows from key and value."""
    return int.from_bytes(_stream(key, value, 16)) % count


def _text(key: bytes, value: bytes) -> bytes:
    """A text longer than _LONGEST is cut."""
    text = value.decode("utf-8", "replace")[:_LONGEST]
    noise = _stream(key, value, 2 * len(text))
    return "".join(
        _letter(char, noise[2 * i] << 8 | noise[2 * i + 1]) for i, char in enumerate(text)
    ).encode()


_LONGEST = 65_536


def _letter(char: str, noise: int) -> str:
    if char.isascii():
        if char.islower():
            return ascii_lowercase[noise % 26]
        if char.isupper():
            return ascii_uppercase[noise % 26]
        return digits[1 + noise % 9 if char != "0" else 0] if char.isdigit() else char
    if char.isalnum() or not char.isprintable():
        return (ascii_uppercase if char.isupper() else ascii_lowercase)[noise % 26]
    return char if char.isspace() else "x"


def _shifted(number: Callable[[bytes, int], int], layout: Struct, value: int) -> int:
    """Another integer of the same sign and number of digits that the type can hold."""
    most = (1 << (8 * layout.size - 1)) - 1
    low = 10 ** (len(str(abs(value))) - 1) if value else 0
    high = min(10 * low - 1, most) if value else 0
    return (low + number(str(value).encode(), high - low + 1)) * (-1 if value < 0 else 1)


def _integer(number: Callable[[bytes, int], int], layout: Struct, value: bytes) -> bytes | None:
    if len(value) != layout.size:
        return None
    return layout.pack(_shifted(number, layout, layout.unpack(value)[0]))


def _integer_text(number: Callable[[bytes, int], int], layout: Struct, value: bytes) -> bytes | None:
    if not re.fullmatch(rb"-?[0-9]{1,19}", value):
        return None
    return str(_shifted(number, layout, int(value))).encode()


def _uuid(key: bytes, binary: bool, value: bytes) -> bytes | None:
    """A version 4 UUID (RFC 9562)."""
    raw = value if binary else value.replace(b"-", b"")
    if not binary:
        raw = bytes.fromhex(raw.decode()) if re.fullmatch(rb"[0-9a-fA-F]{32}", raw) else b""
    if len(raw) != 16:
        return None
    new = bytearray(_stream(key, raw, 16))
    new[6], new[8] = new[6] & 15 | 64, new[8] & 63 | 128
    text = new.hex()
    shown = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return bytes(new) if binary else shown.encode()


_EPOCH, _FIRST, _DAYS = date(2000, 1, 1), date(1950, 1, 1), 25_000


def _date(number: Callable[[bytes, int], int], binary: bool, value: bytes) -> bytes | None:
    """A day between 1950 and 2018. In text only the ISO form is read: others are NULL."""
    if binary:
        if len(value) != 4:
            return None
        day = int.from_bytes(value, signed=True)
        return ((_FIRST - _EPOCH).days + number(str(day).encode(), _DAYS)).to_bytes(4, signed=True)
    if not re.fullmatch(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return None
    try:
        day = (date.fromisoformat(value.decode()) - _EPOCH).days
    except ValueError:
        return None
    return (_FIRST + timedelta(days=number(str(day).encode(), _DAYS))).isoformat().encode()
