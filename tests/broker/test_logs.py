"""Logs are JSON, one object a line, and hold no secret, whichever way one got into the event."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from broker import logs
from broker.clock import SystemChance

TOKEN = "pce_" + SystemChance().token(32)
SECRETS = [
    TOKEN,
    "xoxb-12345678-abcdefgh",
    "xapp-1-A123-456-abcdef",
    "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl",
]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("DEBUG", stream)
    yield stream
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_a_secret_is_known_by_its_look_wherever_it_stands(out: io.StringIO, secret: str) -> None:
    log = structlog.get_logger("broker.test")
    log.info(f"in the text {secret} here", where={"deep": [f"{secret}"]}, plain=("x", secret))
    logging.getLogger("some.library").warning("said %s", secret)
    try:
        raise RuntimeError(f"failed with {secret}")
    except RuntimeError:
        log.exception("broken")
    assert secret not in out.getvalue()
    assert len(lines(out)) == 3


@pytest.mark.parametrize(
    "name", ["password", "admin_password", "token", "client_secret", "Authorization", "cookie"]
)
def test_a_secret_is_known_by_its_name(out: io.StringIO, name: str) -> None:
    structlog.get_logger("broker.test").info("event", **{name: "hunter2"}, nested={name: "hunter2"})
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize(
    "text", ["postgresql://keeper:hunter2@db:5432/x", "authorization: Bearer hunter2hunter2"]
)
def test_a_secret_is_known_by_its_place(out: io.StringIO, text: str) -> None:
    structlog.get_logger("broker.test").info(text)
    assert "hunter2" not in out.getvalue()


def test_what_is_no_secret_stays(out: io.StringIO) -> None:
    structlog.get_logger("broker.test").info(
        "admitted", principal="ada", seconds=1.5, grant="G-7K3F9Q", ok=True
    )
    line = lines(out)[0]
    assert (line["event"], line["principal"], line["seconds"], line["grant"], line["ok"]) == (
        "admitted", "ada", 1.5, "G-7K3F9Q", True,
    )  # fmt: skip
    assert {"timestamp", "level", "logger"} <= line.keys()
