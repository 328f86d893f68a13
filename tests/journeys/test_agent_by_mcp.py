"""A model asks by MCP, is approved in Slack, reads masked rows, is refused a DROP, and gives it back."""

from __future__ import annotations

import json
import sys
from typing import Any

from mcp import Client, StdioServerParameters

from bot.sandbox import text_of

AgentHouse = Any  # tests/journeys/conftest.py, which tests cannot import
APPROVALS = "#dba-approvals"
PURPOSE = "find out why checkout is slow"


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    found = answer.structured_content or json.loads(answer.content[0].text)  # type: ignore[union-attr]
    return found.get("result", found) if isinstance(found, dict) else found


async def test_a_model_asks_is_approved_reads_masked_and_is_refused_a_drop(agent_house: AgentHouse) -> None:
    house = agent_house.house
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "cli.main", "mcp", "--workload-token", str(agent_house.token)],
        env={"PORTCULLIS_BROKER": agent_house.broker_url, "PORTCULLIS_HOME": str(agent_house.token.parent)},
    )
    async with Client(server, read_timeout_seconds=60) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {
            "list_resources", "request_access", "wait_for_access", "run", "result", "status", "release"
        }  # fmt: skip
        (db,) = await call(client, "list_resources")
        assert (db["resource"], db["roles"]) == ("prod-db", ["readonly", "readwrite"])
        asked = await call(client, "request_access", resource="prod-db", purpose=PURPOSE, duration="30m")
        assert asked["state"] == "waiting"

        # The card says that it is an agent, whose, and for what; its owner is no approver of it.
        grace = house.be("grace")
        card = await grace.sees(PURPOSE, channel=APPROVALS)
        told = text_of(card)
        assert "An agent of" in told
        assert (await call(client, "wait_for_access", request=asked["request"], seconds=0))[
            "state"
        ] == "waiting"
        await grace.clicks(card, "approve")
        await grace.sees_change(card, "has `prod-db`", timeout=30)
        opened = await call(client, "wait_for_access", request=asked["request"], seconds=60)
        assert opened["state"] == "open"

        read = await call(
            client, "run", resource="prod-db", statement="select id, email from users order by id limit 2",
            purpose=PURPOSE,
        )  # fmt: skip
        assert (read["state"], read["columns"], read["total"]) == ("finished", ["id", "email"], 2)
        clear = {str(email) for (email,) in house.shop.query("select email from users")}
        assert not {row[1] for row in read["rows"]} & clear
        drop = await client.call_tool(
            "run", {"resource": "prod-db", "statement": "DROP TABLE users", "purpose": PURPOSE}
        )
        assert drop.is_error
        assert "read-only" in drop.content[0].text  # type: ignore[union-attr]
        assert house.shop.query("select count(*) from users")[0][0] > 0

        # Each statement is the agent's, its owner's and its purpose's, in the recording and in the trail.
        header = _header(house)
        assert (header["principal"], header["owner"], header["purpose"]) == ("release-bot", "ada", PURPOSE)
        over = await call(client, "release", request=asked["request"])
        assert over["state"] == "ended"
        again = await client.call_tool(
            "run", {"resource": "billing", "statement": "select 1", "purpose": "x"}
        )
        assert again.is_error
        assert "no resource" in again.content[0].text  # type: ignore[union-attr]


def _header(house: Any) -> Any:
    (recording,) = house.gate.settings.recordings.glob("S-*.jsonl")
    return json.loads(recording.read_text().splitlines()[0])
