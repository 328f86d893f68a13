"""The decision of a role's guardrails on one request.

The first guardrail that fits applies. In doubt one that refuses or holds fits, and one that allows does not:
a strict path fits in any case of letters, a strict value fits if any of several by one name does; an allowing
one needs all of them. Where none fits, what is known is allowed, as far as the service's own rights go; a
method that is not known, or a place that servers read differently, is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from proxy.http import fields
from proxy.http.kinds import NeedBody, Request
from proxy.http.place import ENCODED_SLASH, Place
from proxy.http.readable import Document, Unread, document, nested
from proxy.sql.guardrails import UNREAD_RULE, Allow, Circumstances, Hold, Judgement, Refuse
from workflows import condition, json_path
from workflows.http import FieldMatch, RequestMatch
from workflows.model import Action, Guardrail, StatementClass

_ANY = RequestMatch()
_BLANK = " \t\r\n\0"
_CLASSES = {
    "GET": StatementClass.READ,
    "HEAD": StatementClass.READ,
    "OPTIONS": StatementClass.READ,
    "POST": StatementClass.WRITE,
    "PUT": StatementClass.WRITE,
    "PATCH": StatementClass.WRITE,
    "DELETE": StatementClass.DESTRUCTIVE,
}


class _NeedsBody(Exception):
    """The answer depends on the body, which was not read yet."""


def class_of(method: str) -> StatementClass:
    """What a method does, as far as it says so (RFC 9110, section 9)."""
    return _CLASSES.get(method, StatementClass.UNKNOWN)


def judge(
    request: Request, guardrails: Sequence[Guardrail], where: Circumstances, *, encoded_slash: bool = False
) -> Judgement | NeedBody:
    """What becomes of a request under guardrails."""
    place = request.place
    if place.odd and not (encoded_slash and place.odd == ENCODED_SLASH):
        what = f"the gate cannot judge this request, because {place.odd}, and refuses what it cannot judge"
        return Refuse(UNREAD_RULE, what, "Write the address more plainly.")
    try:
        rail = next((rail for rail in guardrails if _fits(rail, request, place, where)), None)
    except _NeedsBody:
        return NeedBody()
    if rail is None:
        if class_of(request.method) is StatementClass.UNKNOWN:
            what = f"the gate does not know what {request.method} may do, and refuses what it does not know"
            return Refuse(
                UNREAD_RULE, what, "A guardrail that allows this method by name would let it through."
            )
        return Allow()
    if rail.action is Action.REFUSE:
        said = rail.message or f"{request.method} {place.path[:200]} is not allowed here"
        return Refuse(rail.name, f"{said} (guardrail {rail.name})")
    return Hold((rail,)) if rail.action is Action.HOLD else Allow()


def _fits(rail: Guardrail, request: Request, place: Place, where: Circumstances) -> bool:
    match = rail.request or _ANY
    strict = rail.action is not Action.ALLOW
    of_class = class_of(request.method)
    if rail.classes and of_class not in rail.classes:
        return False
    if match.methods and request.method.upper() not in match.methods:
        return False
    if not (strict or rail.classes or match.methods) and of_class is StatementClass.UNKNOWN:
        return False
    return (
        _path_fits(match, place, strict)
        and _named(match.query, lambda name: _values(place.query, name, strict), strict)
        and _named(match.headers, lambda name: _field(request, name, strict), strict)
        and _condition_fits(rail, request, place, where, strict)
        and _body_fits(match, request, strict)
    )


def _path_fits(match: RequestMatch, place: Place, strict: bool) -> bool:
    if not match.paths:
        return True
    path = "/" + "/".join(part.replace("/", "\x01") for part in place.segments)
    if strict:
        path = _folded(path)
    return any(template(one, strict).fullmatch(path) is not None for one in match.paths)


@lru_cache(maxsize=1024)
def template(text: str, strict: bool) -> re.Pattern[str]:
    """A path template as an expression over a decoded path."""
    parts = []
    for part in (_folded(text) if strict else text).strip("/").split("/"):
        if part == "**":
            parts.append(r"(?:/[^/]*)*")
        elif re.fullmatch(r"\{[^{}]*\}", part):
            parts.append(r"/[^/]+")
        else:
            parts.append("/" + "[^/]*".join(re.escape(piece) for piece in part.split("*")))
    return re.compile("".join(parts) + ("/?" if strict or text.endswith("/") else ""), re.S)


@lru_cache(maxsize=4096)
def _folded(text: str) -> str:
    """As a server that is generous about letters may read it."""
    return unicodedata.normalize("NFKC", text).casefold()


def _named(wanted: Sequence[FieldMatch], values: Callable[[str], Sequence[str] | None], strict: bool) -> bool:
    """Whether each wanted value is there and fits. None for values: they cannot be read."""
    for match in wanted:
        found = values(match.name)
        if found is None:
            if not strict:
                return False
            continue
        if not found:
            return False
        if match.values:
            fit = [any(_value_fits(p, value, strict) for p in match.values) for value in found]
            if not (any(fit) if strict else all(fit)):
                return False
    return True


def _values(pairs: Iterable[tuple[str, str]], name: str, strict: bool) -> list[str]:
    """By a name. `role[]`, `role[0]` and ` role` are role to some frameworks, so to what is strict."""
    if strict:
        return [
            value for key, value in pairs if key.partition("[")[0].strip(_BLANK).casefold() == name.casefold()
        ]
    return [value for key, value in pairs if key == name]


def _field(request: Request, name: str, strict: bool) -> list[str] | None:
    """Of the header fields by a name. To some servers `X_Team` is `X-Team`: what is strict takes it for that,
    and nothing is allowed by a field that also came in another spelling, or does not go on.
    """
    wanted = name.lower().encode()
    read = fields.plain(wanted)
    found = [(key, value) for key, value in request.head.headers if fields.plain(key) == read]
    if not strict and any(
        key != wanted or key in fields.HOP or fields.tells_identity(key) for key, _ in found
    ):
        return None
    return [value.decode("latin-1") for _, value in found]


def _value_fits(pattern: str, value: str, strict: bool) -> bool:
    if not strict:
        return _pattern(pattern, strict).fullmatch(value) is not None
    plainer = unicodedata.normalize("NFKC", value).strip(_BLANK)
    return any(_pattern(pattern, strict).fullmatch(one) for one in {value, plainer})


@lru_cache(maxsize=2048)
def _pattern(pattern: str, strict: bool) -> re.Pattern[str]:
    text = ".*".join(re.escape(piece) for piece in pattern.split("*"))
    return re.compile(text, re.S | (re.I if strict else 0))


def _condition_fits(
    rail: Guardrail, request: Request, place: Place, where: Circumstances, strict: bool
) -> bool:
    if not rail.when:
        return True
    of_class = class_of(request.method).value
    facts: dict[str, object] = {
        "statement": {
            "class": of_class,
            "classes": [of_class],
            "kind": request.method.lower(),
            "kinds": [request.method.lower()],
            "tables": [place.path],
            "bounded": None,
            "opaque": False,
        },
        "principal": where.principal,
        "resource": where.resource,
        "role": where.role,
    }
    answer = condition.holds(rail.when, facts)
    return strict if answer is None else answer


def _body_fits(match: RequestMatch, request: Request, strict: bool) -> bool:
    """Looked at last: a body is only read where everything else fits."""
    if not match.body:
        return True
    if request.body is None:
        if not (request.head.chunked or request.head.length):
            return False  # without a body nothing is in it
        raise _NeedsBody
    try:
        read: Document | None = document(request.head, request.body)
    except Unread:
        read = None
    return _named(match.body, lambda path: None if read is None else _texts(read, path, strict), strict)


def _texts(read: Document, path: str, strict: bool) -> list[str]:
    sought = json_path.parse(path)
    found = sought.values(read.value, fold=strict)
    if read.form:
        if strict:  # `user[role]=x` and `user.role=x` are a member of a member to some frameworks
            found += [value for inner in nested(read) for value in sought.values(inner, fold=True)]
        found = [one for value in found for one in (value if isinstance(value, list) else [value])]
    whole = [str(int(one)) for one in found if strict and isinstance(one, float) and one.is_integer()]
    return [json_path.text(value) for value in found] + whole
