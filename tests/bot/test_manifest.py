"""app-manifest.yaml asks for exactly what the code uses, and is what Slack would take."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from bot import wiring

ROOT = Path(__file__).parents[2]
MANIFEST = yaml.safe_load((ROOT / "app-manifest.yaml").read_text())
SOURCES = sorted((ROOT / "bot").glob("*.py"))

SCOPES_OF_METHOD: dict[str, frozenset[str]] = {
    "chat.postMessage": frozenset({"chat:write"}),
    "chat.postEphemeral": frozenset({"chat:write"}),
    "chat.update": frozenset({"chat:write"}),
    "chat.delete": frozenset({"chat:write"}),
    "chat.getPermalink": frozenset(),
    "conversations.info": frozenset({"channels:read", "groups:read"}),
    "conversations.history": frozenset({"channels:history", "groups:history", "im:history"}),
    "conversations.replies": frozenset({"channels:history", "groups:history", "im:history"}),
    "conversations.open": frozenset({"im:write"}),
    "users.info": frozenset({"users:read", "users:read.email"}),  # the address is compared
    "views.open": frozenset(),
    "views.update": frozenset(),
    "views.publish": frozenset(),
}
"""What each method needs for the places we use it in; docs.slack.dev/reference/methods."""

SCOPE_OF_EVENT = {
    "app_home_opened": None,
    "user_change": "users:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
}


def string(most: int, least: int = 1) -> dict[str, object]:
    return {"type": "string", "minLength": least, "maxLength": most}


def closed(required: tuple[str, ...], **properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": False,
    }


URL = {"type": "string", "pattern": r"^https://\S+$", "maxLength": 3000}
FLAG = {"type": "boolean"}
NAMES = {"type": "array", "uniqueItems": True, "maxItems": 255, "items": {"type": "string"}}
SCHEMA = closed(
    ("display_information",),
    _metadata=closed((), major_version={"enum": [1, 2]}, minor_version={"type": "integer"}),
    display_information=closed(
        ("name",),
        name=string(35),
        description=string(140),
        long_description=string(4000, 175),
        background_color={"type": "string", "pattern": "^#[0-9a-fA-F]{3}([0-9a-fA-F]{3})?$"},
    ),
    features=closed(
        (),
        app_home=closed(
            (), home_tab_enabled=FLAG, messages_tab_enabled=FLAG, messages_tab_read_only_enabled=FLAG
        ),
        bot_user=closed(("display_name",), display_name=string(80), always_online=FLAG),
        shortcuts={
            "type": "array",
            "maxItems": 10,
            "items": closed(
                ("name", "type", "callback_id", "description"),
                name=string(24),
                type={"enum": ["global", "message"]},
                callback_id=string(255),
                description=string(150),
            ),
        },
        slash_commands={
            "type": "array",
            "maxItems": 50,
            "items": closed(
                ("command", "description"),
                command={"type": "string", "pattern": r"^/[a-z0-9_\-]{1,31}$"},
                description=string(2000),
                usage_hint=string(1000),
                should_escape=FLAG,
                url=URL,
            ),
        },
    ),
    oauth_config=closed(
        (),
        scopes=closed((), bot=NAMES),
    ),
    settings=closed(
        (),
        event_subscriptions=closed(
            (),
            request_url=URL,
            bot_events={"type": "array", "uniqueItems": True, "items": {"type": "string"}},
        ),
        interactivity=closed(("is_enabled",), is_enabled=FLAG, request_url=URL, message_menu_options_url=URL),
        org_deploy_enabled=FLAG,
        socket_mode_enabled=FLAG,
        token_rotation_enabled=FLAG,
    ),
)


def methods_used() -> set[str]:
    """The Web API methods that the bot calls: `client.chat_postMessage(` is chat.postMessage."""
    calls = re.compile(r"client\.((?:chat|conversations|users|views|usergroups|reactions|files)_\w+)\b")
    found = {name for path in SOURCES for name in calls.findall(path.read_text())}
    return {name.replace("_", ".", 1) for name in found}


def test_the_manifest_is_one_that_slack_takes() -> None:
    jsonschema.validate(MANIFEST, SCHEMA)


def test_every_method_called_is_known_with_its_scopes() -> None:
    assert methods_used() == set(SCOPES_OF_METHOD)


def test_the_scopes_are_exactly_those_that_are_used() -> None:
    needed = {scope for method in methods_used() for scope in SCOPES_OF_METHOD[method]}
    needed |= {scope for scope in SCOPE_OF_EVENT.values() if scope}
    needed |= {"commands"}
    assert set(MANIFEST["oauth_config"]["scopes"]["bot"]) == needed


def test_the_commands_shortcuts_and_events_are_exactly_those_that_are_handled() -> None:
    features = MANIFEST["features"]
    assert {c["command"] for c in features["slash_commands"]} == set(wiring.COMMANDS)
    assert {s["callback_id"] for s in features["shortcuts"]} == set(wiring.SHORTCUTS)
    assert set(MANIFEST["settings"]["event_subscriptions"]["bot_events"]) == set(wiring.EVENTS)
    assert set(wiring.EVENTS) == set(SCOPE_OF_EVENT)


def test_mentions_in_commands_are_escaped_so_that_no_raw_name_is_ever_resolved() -> None:
    assert all(command["should_escape"] for command in MANIFEST["features"]["slash_commands"])


def test_interactivity_and_the_home_tab_are_on_because_they_are_used() -> None:
    assert MANIFEST["settings"]["interactivity"]["is_enabled"] is True
    assert MANIFEST["features"]["app_home"]["home_tab_enabled"] is True
    assert MANIFEST["features"]["app_home"]["messages_tab_enabled"] is True


def test_every_action_and_view_that_is_shown_is_handled_and_every_handler_is_shown() -> None:
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "wiring.py")
    shown = set(re.findall(r'button\(\s*"(\w+)"', text)) | set(re.findall(r'"action_id": "(\w+)"', text))
    inputs_read_at_submission = {"typed", "reason", "glass_span", "incident", "name", "verdict"}
    inputs_read_at_submission |= {"run_where", "run_text", "budget", "ticket"}
    assert shown - inputs_read_at_submission == set(wiring.ACTIONS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_of_the_bot_imports_the_sandbox(path: Path) -> None:
    assert "bot.sandbox" not in path.read_text()


def test_it_can_be_used_by_socket_mode_by_leaving_its_addresses_out_as_the_how_to_says() -> None:
    text = (ROOT / "app-manifest.yaml").read_text()
    lines = [line for line in text.splitlines() if "//portcullis.example.com" not in line]
    assert len(text.splitlines()) - len(lines) == 4, "docs/how-to/connect-slack.md counts them"
    socket = yaml.safe_load(
        "\n".join(lines).replace("socket_mode_enabled: false", "socket_mode_enabled: true")
    )
    jsonschema.validate(socket, SCHEMA)
    assert socket["settings"]["socket_mode_enabled"] is True
    assert set(socket["settings"]["event_subscriptions"]["bot_events"]) == set(wiring.EVENTS)


def test_no_domain_is_unfurled_since_nothing_answers_for_links() -> None:
    assert "unfurl_domains" not in MANIFEST["features"]
    assert not {"link_shared", "links:read"} & {*wiring.EVENTS, *MANIFEST["oauth_config"]["scopes"]["bot"]}
