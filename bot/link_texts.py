"""What people are told about the link between their Slack account and them. Pure."""

from __future__ import annotations

import json

from bot.markup import Blocks, actions, button, code, context, date, plain, section
from bot.shown import EVENT_TYPE, Card
from broker.store.links import SlackLink
from workflows.model import Principal, Refusal

_PRIVATE = "Only you see this. The link is for you alone: it works once, for ten minutes. Do not pass it on."


_ABOUT_PASSKEYS = {
    "passkey-added": "🔑 A passkey was added to your account",
    "passkey-removed": "🔑 A passkey was removed from your account",
}
_NOT_YOU = "If that was not you, tell security at once: somebody is logged in as you."


def offer(url: str, line: str) -> tuple[str, Blocks]:
    """The link for somebody whose account is nobody's yet; `line` is what they typed, which is kept."""
    text = "🔗 This Slack account is not linked to you yet. Log in once, and confirm that it is yours."
    kept = f" What you typed is kept: {code(f'/access {line}')}" if line else ""
    buttons = actions("link", button("open_page", "Log in and link", url=url, style="primary"))
    return text, [section(f"{text}{kept}"), buttons, context(_PRIVATE)]


def with_page(refusal: Refusal) -> Blocks:
    """A refusal that goes on on a page of ours, for whoever was refused."""
    go_on = button("open_page", "Decide with my passkey", url=refusal.link, style="primary")
    private = "Only you see this. The page works once, for ten minutes, and for you alone."
    return [section(f"🔑 {plain(refusal.why, 1000)}"), actions("step_up", go_on), context(private)]


def home() -> Blocks:
    """The home tab of somebody whose account is nobody's yet."""
    return [
        section("*Portcullis* opens doors when the right people say so."),
        section("🔗 Your Slack account is not linked to you yet, so there is nothing to show."),
        actions("link", button("link", "Link my account", "link", style="primary")),
    ]


def state(person: Principal, link: SlackLink | None) -> str:
    """How the reader's account is linked, in one line."""
    who = f"*{plain(person.name or person.id, 80)}* ({plain(person.email or person.id, 120)})"
    if link is None:
        return f"🔗 This Slack account is linked to {who} by the policy file."
    how = "you confirmed it" if link.how == "login" else "both have the same e-mail address"
    return f"🔗 This Slack account is linked to {who}: {how} {date(link.linked_at)}."


def account_card(payload: str, key: str) -> tuple[str, Card]:
    """Whom to tell, and what, from a row that broker/identity leaves: links.py or passkeys.py."""
    told = json.loads(payload)
    principal, line = plain(str(told["principal"]), 200), str(told.get("line") or "")
    if told["what"] == "linked":
        text = f"🔗 This Slack account is now linked to {principal}. If that was not you: `/access unlink`."
    elif told["what"] in _ABOUT_PASSKEYS:
        text = f"{_ABOUT_PASSKEYS[told['what']]} ({plain(str(told['key']), 100)}). {_NOT_YOU}"
    else:
        why = plain(str(told.get("why") or ""), 300)
        text = f"🔗 This Slack account is no longer linked to {principal}, because {why}."
    blocks: Blocks = [section(text)]
    if line:
        blocks += [
            section(f"You had typed {code(f'/access {line}')}"),
            actions("go_on", button("mended", "Go on with it", line[:2000], style="primary")),
        ]
    payload_of = {"request": key, "place": "account", "version": 0}
    return str(told["user"]), Card(text, blocks, {"event_type": EVENT_TYPE, "event_payload": payload_of})
