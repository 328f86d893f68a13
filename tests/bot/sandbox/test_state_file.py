"""A second start finds the same workspace again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox import Person, create_sandbox


async def test_channels_messages_and_homes_are_found_again(tmp_path, clock, workspace_with):
    path = tmp_path / "deep" / "slack.json"
    async with create_sandbox(workspace_with(), clock, state_file=path) as sandbox:
        client = AsyncWebClient(sandbox.workspace.app.bot_token, base_url=sandbox.api_url)
        ada = sandbox.as_user("ada")
        where = sandbox.state.channel_named("general").id
        posted = await client.chat_postMessage(channel=where, text="card")
        await client.chat_postMessage(channel=ada.id, text="for you")
        await client.chat_postEphemeral(channel=where, user=ada.id, text="psst")
        await client.views_publish(user_id=ada.id, view={"type": "home", "blocks": [{"type": "divider"}]})
    async with create_sandbox(workspace_with(), clock, state_file=path) as again:
        client = AsyncWebClient(again.workspace.app.bot_token, base_url=again.api_url)
        ada = again.as_user("ada")
        assert [m.text for m in ada.messages("#general")] == ["card"]
        assert [m.text for m in ada.dms()] == ["for you"]
        assert ada.home is not None
        await client.chat_update(channel=where, ts=posted["ts"], text="card, later")
        newer = await client.chat_postMessage(channel=where, text="next")
        assert newer["ts"] > posted["ts"]


async def test_the_file_is_written_while_the_sandbox_runs(tmp_path, clock, workspace_with):
    path = tmp_path / "slack.json"
    async with create_sandbox(workspace_with(), clock, state_file=path) as sandbox:
        await sandbox.as_user("ada").types("#general", "hello")
        sandbox.save()
        texts = [message["text"] for message in json.loads(path.read_text())["messages"]]
        assert texts == ["hello"]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_file_is_said_to_be_damaged_and_left_alone(tmp_path, clock, workspace_with, content):
    path = tmp_path / "slack.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read .*delete it"):
        create_sandbox(workspace_with(), clock, state_file=path)
    assert path.read_text() == content


def test_two_people_with_one_id_are_refused(clock, workspace_with):
    workspace = workspace_with()
    twice = replace(workspace, people=(*workspace.people, Person("a.da", "Another Ada")))
    with pytest.raises(ValueError, match="give one of them an `id`"):
        create_sandbox(twice, clock)


async def test_a_person_added_to_the_configuration_joins_the_channels_that_are_there(
    tmp_path, clock, workspace_with
):
    path = tmp_path / "slack.json"
    workspace = workspace_with()
    async with create_sandbox(workspace, clock, state_file=path) as sandbox:
        await sandbox.as_user("ada").types("#general", "hello")
        sandbox.admin.leaves("#general", "linus")
    grown = replace(workspace, people=(*workspace.people, Person("olive", "Olive Oncall")))
    async with create_sandbox(grown, clock, state_file=path) as again:
        assert [m.text for m in again.as_user("olive").messages("#general")] == ["hello"]
        assert again.as_user("linus").messages("#general") == []
