"""Finding what should not be shown inside texts: addresses, card numbers, accounts, phones, national numbers.

Used on the values of text and JSON columns without a mask. What is found is replaced where it stands, the
rest of the text stays. A candidate counts only when it checks: Luhn, length and issuer for cards (ISO/IEC
7812), the check digits for IBANs (ISO 13616) and national numbers (python-stdnum), a valid number of some
country for phones (libphonenumber's data). Every search is linear in the text, and a text beyond MOST
characters is masked whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial

import phonenumbers
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.exceptions import ValidationError
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

from proxy.sql.methods import FULL

MOST = 100_000
"""Characters of a value that are searched."""

_STARS = FULL.decode()
Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]

# One class of characters a quantifier, each bounded: the search cannot backtrack further than its bound.
_NAME = r"\w.!#$%&'*+?^~-"
_EMAIL = re.compile(
    rf"(?<![{_NAME}])[{_NAME}]{{1,64}}@(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?\.){{1,8}}[^\W\d_]{{2,24}}(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)")
_ISSUED = re.compile(
    r"4\d{12}(\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}|6\d{15,18}"
)
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}\d{2}(?: ?[0-9A-Za-z]){11,30}(?![0-9A-Za-z])")
_ANY_PHONE = re.compile(
    r"(?<![\w.+])(?:\+|00)\d(?:[ ()./-]{0,2}\d){6,14}(?!\d)"
    r"|(?<![\w.+-])(?P<local>(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4})(?![\w-])"
)


def emails(text: str) -> Iterator[Span]:
    if "@" in text:
        yield from (found.span() for found in _EMAIL.finditer(text))


def cards(text: str) -> Iterator[Span]:
    for found in _CARD.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if _ISSUED.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield found.span()


def ibans(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        # Words may follow after a space: the longest that checks counts.
        words = found[0].split(" ")
        for count in range(len(words), 0, -1):
            shown = " ".join(words[:count])
            if iban.is_valid(shown):
                yield found.start(), found.start() + len(shown)
                break


def phones(text: str) -> Iterator[Span]:
    """International numbers of any country, and national ones in the form that the United States write."""
    last = 0
    for found in _ANY_PHONE.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if found["local"]:
            known = _is_phone(digits, "US")
        else:
            known = _is_phone("+" + (digits if found[0][0] == "+" else digits[2:]), None)
        if known and found.start() >= last:
            last = found.end()
            yield found.span()


def _is_phone(text: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


# Each with the form it is written in: eleven digits alone are too often something else.
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = tuple(
    (re.compile(rf"(?<![0-9A-Za-z.-]){form}(?![0-9A-Za-z-])"), validate)
    for form, validate in (
        (r"\d{3}-\d{2}-\d{4}", ssn.validate),
        (r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.validate),
        (r"[A-Za-z]{6}\d\d[A-Za-z]\d\d[A-Za-z]\d{3}[A-Za-z]", codicefiscale.validate),
        (r"\d{8}[A-Za-z]", dni.validate),
        (r"[XYZxyz]\d{7}[A-Za-z]", nie.validate),
        (r"[12] ?\d\d ?\d\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", nir.validate),
        (r"\d\d ?\d{3} ?\d{3} ?\d{3}", idnr.validate),
        (r"\d{11}", pesel.validate),
        (r"\d{3} \d{3} \d{4}", nhs.validate),
        (r"\d{4}[ .]\d\d[ .]\d{3}", bsn.validate),
    )
)


def national_ids(text: str) -> Iterator[Span]:
    """US SSN, Brazilian CPF, Italian codice fiscale, Spanish DNI and NIE, French NIR, German IdNr, Polish
    PESEL, British NHS number, Dutch BSN."""
    for form, validate in _NUMBERS:
        for found in form.finditer(text):
            try:
                validate(found[0])
            except ValidationError:
                continue
            yield found.span()


DETECTORS: dict[str, Finder] = {
    "email": emails,
    "card": cards,
    "iban": ibans,
    "phone": phones,
    "national_id": national_ids,
}

# Nothing is found in a text without one of these.
_HINT = re.compile(r"@|\d{3}|\d[ .()/-]{1,2}\d")


def hide(text: str, names: Iterable[str]) -> str:
    """The text with what the named detectors find replaced. Raises KeyError for an unknown name.

    What stood against a finding may be one itself, once that is gone: it is searched again, and a text that
    still gives after ROUNDS is replaced whole.
    """
    if not _HINT.search(text):
        return text
    finders = [DETECTORS[name] for name in names]
    for _ in range(ROUNDS):
        hidden = _once(text, finders)
        if hidden == text:
            return text
        text = hidden
    return text if _once(text, finders) == text else _STARS


ROUNDS = 4


def _once(text: str, finders: Iterable[Finder]) -> str:
    pieces, kept = [], 0
    for start, end in sorted(span for finder in finders for span in finder(text)):
        if end > kept:
            pieces += [text[kept : max(start, kept)], _STARS] if start >= kept else [_STARS]
            kept = end
    pieces.append(text[kept:])
    return "".join(pieces)


@lru_cache(maxsize=64)
def hider(names: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """`hide` for values on the wire. A value that is too long to be searched is masked whole."""
    return partial(_hidden, names)


def _hidden(names: tuple[str, ...], value: bytes) -> bytes:
    if len(value) > MOST:
        return FULL
    try:
        text = value.decode()
    except UnicodeDecodeError:  # not UTF-8: the ASCII in it is searched
        return hide(value.decode("latin-1"), names).encode("latin-1")
    hidden = hide(text, names)
    return value if hidden == text else hidden.encode()


@lru_cache(maxsize=64)
def json_hider(names: tuple[str, ...], binary: bool) -> Callable[[bytes], bytes]:
    """`hide` for json and jsonb, whose binary format is a version byte and the text: it stays JSON, since a
    number that is found becomes a string."""
    return partial(_hidden_json, names, binary)


# A JSON string or number (RFC 8259). Escapes are undone by reading the string.
# A string that never ends runs to the end of the text, so that no character is looked at twice.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|-?\d[\d.eE+-]*+', re.S)


def _hidden_json(names: tuple[str, ...], binary: bool, value: bytes) -> bytes:
    head, body = (value[:1], value[1:]) if binary else (b"", value)
    if len(body) > MOST:
        return head + b'"***"'
    text = body.decode("utf-8", "replace")
    hidden = _TOKEN.sub(lambda token: _hidden_token(token[0], names), text)
    return value if hidden == text else head + hidden.encode()


def _hidden_token(token: str, names: tuple[str, ...]) -> str:
    if not token.startswith('"'):
        return token if hide(token, names) == token else f'"{_STARS}"'
    try:
        inside = json.loads(token, strict=False)
    except ValueError:
        return f'"{_STARS}"'
    hidden = hide(inside, names)
    return token if hidden == inside else json.dumps(hidden)


@lru_cache(maxsize=64)
def refuser(names: tuple[str, ...]) -> Callable[[bytes], bytes | None]:
    """For formats that `hide` would break: a value in which something is found becomes NULL."""

    def checked(value: bytes) -> bytes | None:
        if len(value) > MOST:
            return None
        text = value.decode("latin-1")
        return value if hide(text, names) == text else None

    return checked
