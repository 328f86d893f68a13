"""Which delivery goes to which handler. These tables and app-manifest.yaml name the same things.

Every handler acknowledges first and works after, but for the two that Slack wants an answer from: a
submitted form and a search in a select.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck

from bot import (
    actions,
    allowances,
    asking,
    comments,
    forms,
    review_actions,
    run_actions,
    run_forms,
    sitting_actions,
    urgent_actions,
    urgent_forms,
)
from bot.commands import run_line
from bot.desk import Body, Desk, team_of
from bot.home import publish_home, show_unlinked
from workflows.grammar import from_slack
from workflows.run_lines import is_run

Handler = Callable[[Desk, Body], Awaitable[None]]


async def _access(desk: Desk, body: Body) -> None:
    """`/access`, alone or with a line."""
    line = from_slack(str(body.get("text") or ""))
    if not line.strip():
        await asking.open_form(desk, body)
    elif urgent_actions.is_break_glass(line):
        await urgent_actions.open_glass(desk, body, line)
    elif is_run(line):
        await run_actions.run_command(desk, body, line)
    elif (moment := await desk.receive(body)) is not None:
        await run_line(moment, line)


async def _shortcut(desk: Desk, body: Body) -> None:
    await asking.open_form(desk, body)


async def _mended(desk: Desk, body: Body) -> None:
    """The button holds a line; pressing it is typing the line."""
    line = actions.value_of(body)
    if urgent_actions.is_break_glass(line):
        await urgent_actions.open_glass(desk, body, line)
    else:
        await actions.run_mended(desk, body)


async def _form(desk: Desk, body: Body) -> None:
    await asking.open_form(desk, body, str((body.get("actions") or [{}])[0].get("value") or ""))


async def _glass(desk: Desk, body: Body) -> None:
    await urgent_actions.open_glass(desk, body)


async def _home(desk: Desk, body: Body) -> None:
    if (body.get("event") or {}).get("tab") != "home" or await show_unlinked(desk, body):
        return
    if (moment := await desk.receive(body)) is not None:
        await publish_home(moment)


async def _user_changed(desk: Desk, body: Body) -> None:
    user = (body.get("event") or {}).get("user")
    if isinstance(user, dict):
        await desk.people.changed(team_of(body), user)


async def _link(desk: Desk, body: Body) -> None:
    """The button of the home tab: pressing it is typing `link`."""
    if (moment := await desk.receive(body)) is not None:
        await run_line(moment, "link")
        await publish_home(moment)


async def _nothing(desk: Desk, body: Body) -> None:
    """A field whose value is read when the form is sent, or a link that Slack reports as pressed."""


def _deciding(verb: str) -> Handler:
    async def handle(desk: Desk, body: Body) -> None:
        await actions.decide(desk, body, verb)

    return handle


def _asking_why(callback: str) -> Handler:
    async def handle(desk: Desk, body: Body) -> None:
        await actions.ask_why(desk, body, callback)

    return handle


def _why_given(callback: str) -> Handler:
    async def handle(desk: Desk, body: Body) -> None:
        await actions.why_given(desk, body, callback)

    return handle


COMMANDS: dict[str, Handler] = {"/access": _access}
SHORTCUTS: dict[str, Handler] = {"request_access": _shortcut, "run_as_request": run_actions.open_with}
ACTIONS: dict[str, Handler] = {
    "approve": _deciding("approve"),
    "cancel": _deciding("cancel"),
    "release": _deciding("release"),
    "claim": _deciding("claim"),
    "nudge": _deciding("nudge"),
    "kill": _deciding("kill"),
    "kill_session": sitting_actions.kill_session,
    "extend_short": _deciding("extend"),
    "extend_long": _deciding("extend"),
    "extension_approve": _deciding("extension_approve"),
    "deny": _asking_why(forms.DENY),
    "revoke": _asking_why(forms.REVOKE),
    "extension_deny": _asking_why(forms.DENY_EXTENSION),
    "less": urgent_actions.open_less,
    "ask": urgent_actions.open_comment,
    "answer": urgent_actions.open_comment,
    "emergency": urgent_actions.turn_into,
    "glass": _glass,
    "drill": urgent_actions.drill,
    "glass_resource": urgent_actions.glass_changed,
    "review": urgent_actions.open_review,
    "review_approve": review_actions.approve,
    "review_deny": review_actions.ask_why,
    "review_budget": review_actions.ask_budget,
    "review_withdraw": review_actions.withdraw,
    "allowance_end": allowances.end_pressed,
    "mended": _mended,
    "form": _form,
    "enter": _nothing,
    "open_page": _nothing,
    "link": _link,
    "resource": asking.changed,
    "role": asking.changed,
    "whom": asking.changed,
    "span": _nothing,
}
REASONS: dict[str, Handler] = {
    forms.DENY: _why_given(forms.DENY),
    forms.REVOKE: _why_given(forms.REVOKE),
    forms.DENY_EXTENSION: _why_given(forms.DENY_EXTENSION),
    urgent_forms.LESS: urgent_actions.less_sent,
    urgent_forms.COMMENT: urgent_actions.comment_sent,
    forms.DENY_STATEMENT: review_actions.why_given,
    run_forms.BUDGET: review_actions.budget_given,
}
EVENTS: dict[str, Handler] = {
    "app_home_opened": _home,
    "user_change": _user_changed,
    "message.channels": comments.written,
    "message.groups": comments.written,
}
"""By the names of the manifest; Slack sends those of one family under one type."""
OPTIONS = ("resource",)


def wire(app: AsyncApp, desk: Desk) -> None:
    """Register every handler of the tables."""

    def acked(handler: Handler) -> Callable[..., Awaitable[None]]:
        async def listener(ack: AsyncAck, body: dict[str, Any]) -> None:
            await ack()
            await handler(desk, body)

        return listener

    async def ask_submitted(ack: AsyncAck, body: dict[str, Any]) -> None:
        await asking.submitted(desk, body, ack)

    async def glass_sent(ack: AsyncAck, body: dict[str, Any]) -> None:
        await urgent_actions.glass_sent(desk, body, ack)

    async def run_sent(ack: AsyncAck, body: dict[str, Any]) -> None:
        await run_actions.run_sent(desk, body, ack)

    async def review_sent(ack: AsyncAck, body: dict[str, Any]) -> None:
        await urgent_actions.review_sent(desk, body, ack)

    async def search(ack: AsyncAck, body: dict[str, Any]) -> None:
        await ack(options=await asking.offered(desk, body))

    for name, handler in COMMANDS.items():
        app.command(name)(acked(handler))
    for name, handler in SHORTCUTS.items():
        app.shortcut(name)(acked(handler))
    for name, handler in ACTIONS.items():
        app.action(name)(acked(handler))
    for name, handler in REASONS.items():
        app.view(name)(acked(handler))
    for kind, handler in {name.partition(".")[0]: handler for name, handler in EVENTS.items()}.items():
        app.event(kind)(acked(handler))
    for name in OPTIONS:
        app.options(name)(search)
    app.view(forms.ASK)(ask_submitted)
    app.view(urgent_forms.BREAK)(glass_sent)
    app.view(urgent_forms.REVIEW)(review_sent)
    app.view(run_forms.RUN)(run_sent)
