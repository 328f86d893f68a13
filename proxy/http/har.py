"""A session's HTTP requests as an HTTP Archive, which browsers' developer tools and HAR viewers open.

HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/), with `_webSocketMessages` as Chromium writes them.
What the recording has not is said to be unknown (-1), and what it hides stays hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from proxy.recording import Exchange, Recording, Screen, Statement

_LINE = re.compile(r"(?:.* — )?([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (/\S*)", re.S)
_TYPES = {"i": "send", "o": "receive"}


def har(recording: Recording) -> dict[str, Any]:
    """The archive: one entry a request, in the order in which they ended."""
    exchanges = {it.channel: it for it in recording.happened if isinstance(it, Exchange)}
    screens: dict[int, list[Screen]] = {}
    for it in recording.happened:
        if isinstance(it, Screen):
            screens.setdefault(it.channel, []).append(it)
    entries = [
        _entry(recording, it, exchanges.get(it.channel), screens.get(it.channel, ()))
        for it in recording.statements
        if it.what == "http"
    ]
    head = recording.header
    comment = f"{head.session}: {head.principal} on {head.resource} as {head.role}, grant {head.grant}"
    creator = {"name": "Portcullis", "version": "1"}
    return {
        "log": {"version": "1.2", "creator": creator, "pages": [], "entries": entries, "comment": comment}
    }


def _entry(
    recording: Recording, it: Statement, exchange: Exchange | None, screens: Iterable[Screen]
) -> dict[str, Any]:
    asked = exchange.request if exchange is not None else []
    answered = exchange.answer if exchange is not None else []
    began = datetime.fromisoformat(recording.header.started) + timedelta(seconds=it.at)
    took = round(it.took * 1000, 3)
    said = " · ".join(part for part in (it.verdict, it.outcome, it.message, it.decision) if part)
    entry: dict[str, Any] = {
        "startedDateTime": began.isoformat(timespec="milliseconds"),
        "time": took,
        "request": _request(recording, it, asked, exchange.sent if exchange is not None else ""),
        "response": _response(it, exchange, answered),
        "cache": {},
        "timings": {"send": 0, "wait": took, "receive": 0},
        "comment": said,
    }
    messages = [
        {
            "type": _TYPES[screen.event],
            "time": (began + timedelta(seconds=screen.at - it.at)).timestamp(),
            "opcode": 1,
            "data": screen.text,
        }
        for screen in screens
        if screen.event in _TYPES
    ]
    return {**entry, "_webSocketMessages": messages} if messages else entry


def _request(recording: Recording, it: Statement, asked: list[tuple[str, str]], body: str) -> dict[str, Any]:
    line = _LINE.match(it.text)
    method, target = (line[1], line[2]) if line is not None else ("-", "/")
    host = _value(asked, "host") or recording.header.resource
    request: dict[str, Any] = {
        "method": method,
        "url": f"https://{host}{target}",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(asked),
        "queryString": _pairs(parse_qsl(target.partition("?")[2], keep_blank_values=True)),
        "headersSize": -1,
        "bodySize": it.sent,
    }
    if body:
        request["postData"] = {"mimeType": _value(asked, "content-type"), "text": body}
    return request


def _response(it: Statement, exchange: Exchange | None, answered: list[tuple[str, str]]) -> dict[str, Any]:
    status, _, reason = it.tag.partition(" ")
    content: dict[str, Any] = {"size": it.received, "mimeType": _value(answered, "content-type")}
    if exchange is not None and exchange.received:
        content["text"] = exchange.received
    return {
        "status": int(status) if status.isdigit() else 0,
        "statusText": reason,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(answered),
        "content": content,
        "redirectURL": _value(answered, "location"),
        "headersSize": -1,
        "bodySize": it.received,
    }


def _pairs(found: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in found]


def _value(found: Iterable[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in found if name == wanted), "")
