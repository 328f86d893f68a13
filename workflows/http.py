"""What a grant on an HTTP service says: rules about requests, and what is hidden in answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """A named value of a request that is to be there, and to fit one of `values` where there are some. `*`
    stands for any part of a value.
    """

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestMatch:
    """Which requests a guardrail fits; what is empty fits any.

    `paths` are templates like `/api/users/{id}`: a part in braces or `*` is any one part, `**` any number of
    them. Of `query`, `headers` and `body` (fields of a JSON body, like `$.user.role`) all must fit.
    """

    methods: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()
    query: tuple[FieldMatch, ...] = ()
    headers: tuple[FieldMatch, ...] = ()
    body: tuple[FieldMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldMask:
    """A field of JSON answers whose clear value never leaves the gate.

    `path` is like `$.users[*].email`; `$..email` is a field of this name wherever it stands. `method` is one
    of those of masked columns.
    """

    path: str
    method: str = "full"


@dataclass(frozen=True, slots=True)
class HttpTerms:
    """What a session at an HTTP service may be, beside the guardrails on its requests.

    `record` is lines (the request's line and the answer's status), heads (with their fields) or bodies (with
    the beginnings of texts). `websocket` lets connections change to WebSocket. `pass_types` are the media
    types of answers that pass unread although something is masked. `matter` are further header fields that an
    approval is bound to. `encoded_slash` has an encoded slash be a part of a name, for services that read it
    so.
    """

    masks: tuple[FieldMask, ...] = ()
    record: str = "heads"
    websocket: bool = True
    pass_types: tuple[str, ...] = ()
    matter: tuple[str, ...] = ()
    encoded_slash: bool = False
