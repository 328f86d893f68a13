"""The HTTP Archive of a session is one by the schema of HAR 1.2, and says what the recording says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from proxy.http.har import har
from proxy.recording import Statement, read
from tests.proxy.http.conftest import HOST, SECRET, TOKEN, HttpHouse, request
from tests.recordings_kit import recorded

SCHEMA = json.loads(Path(__file__).with_name("har-1.2.schema.json").read_text())


def valid(archive: dict[str, Any]) -> dict[str, Any]:
    errors = [
        f"{'/'.join(map(str, it.path))}: {it.message}" for it in Draft7Validator(SCHEMA).iter_errors(archive)
    ]
    assert errors == []
    log: dict[str, Any] = archive["log"]
    return log


@pytest.mark.parametrize("level", ["lines", "heads", "bodies"])
async def test_every_level_of_recording_makes_a_valid_archive(
    open_http: Any, service: Any, level: str
) -> None:
    house: HttpHouse = await open_http(idle=0.3)
    house.authority.service_grant(service.upstream(), record=level, websocket=True)
    async with house.client(headers={"Cookie": "sid=abc"}) as client:
        async with client.post(
            house.address("/count?a=1&token=t-1"), json={"x": 1, "password": "p-1"}
        ) as answer:
            assert answer.status == 200
        async with client.ws_connect(house.address("/ws")) as ws:
            await ws.send_str("hello")
            await ws.receive(5)
    assert (await house.raw(request("GET /a/../b HTTP/1.1"))).startswith(b"HTTP/1.1 400")
    log = valid(har(await house.recording()))
    first = next(it for it in log["entries"] if it["request"]["method"] == "POST")
    host = f"{HOST}:{house.port}" if level != "lines" else "grafana"
    assert first["request"]["url"] == f"https://{host}/count?a=1&token=***"
    assert {"name": "a", "value": "1"} in first["request"]["queryString"]
    assert first["response"]["status"] == 200
    assert first["time"] > 0
    assert ("postData" in first["request"]) is (level == "bodies")
    if level == "bodies":
        assert json.loads(first["response"]["content"]["text"]) == {"size": 27}
        (socket,) = [it for it in log["entries"] if "_webSocketMessages" in it]
        said = [(it["type"], it["data"]) for it in socket["_webSocketMessages"]]
        assert said == [("send", "hello"), ("receive", "you said hello")]
    for secret in (TOKEN, SECRET, "sid=abc", "t-1", "p-1"):
        assert secret not in json.dumps(log)


async def test_a_refused_request_is_in_it_with_the_reason(open_http: Any, service: Any) -> None:
    from tests.proxy.http.test_evasions import rail

    house: HttpHouse = await open_http(idle=0.2)
    house.authority.service_grant(service.upstream(), guardrails=(rail(methods=["DELETE"]),))
    await house.raw(request("DELETE /all HTTP/1.1"))
    (entry,) = valid(har(await house.recording()))["entries"]
    assert entry["response"]["status"] == 403
    assert "guardrail rule" in entry["comment"]


def test_a_request_to_a_cluster_is_one_too(tmp_path: Path) -> None:
    said = "list pods in shop — GET /api/v1/namespaces/shop/pods?limit=5"
    listed = Statement(0, 1.5, said, "ok", 0.25, "200 OK", verdict="read", what="http", channel=1, received=7)
    written = recorded(tmp_path, "S-1", [listed], started=datetime(2026, 11, 24, 10, tzinfo=UTC))
    (entry,) = valid(har(read(written.path)))["entries"]
    assert entry["request"]["url"] == "https://prod-db/api/v1/namespaces/shop/pods?limit=5"
    assert entry["startedDateTime"] == "2026-11-24T10:00:01.500+00:00"
    assert entry["time"] == 250
    assert entry["comment"] == "read · ok"
