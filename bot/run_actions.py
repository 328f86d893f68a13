"""Submitting one statement from Slack: the form, and what was filled in."""

from __future__ import annotations

from collections.abc import Callable

from slack_bolt.context.ack.async_ack import AsyncAck

from bot import forms, texts
from bot.commands import context_of, run_line, submit_run
from bot.desk import Body, Desk, Moment, log
from bot.run_forms import MAX_TEXT, read_run_form, run_form
from bot.slack import TROUBLE, error_of
from workflows.grammar import Mistake, Run, from_slack, parse
from workflows.model import Refusal
from workflows.run_lines import is_run, statement_in


async def run_command(desk: Desk, body: Body, line: str) -> None:
    """`/access run …`: a whole line is done; one without a statement opens the form, filled in so far."""
    if len(line.split()) > 2:
        if (moment := await desk.receive(body)) is not None:
            await run_line(moment, line)
        return
    await _open_form(desk, body, lambda moment: _draft(moment, line), str(body.get("channel_id") or ""))


async def open_with(desk: Desk, body: Body) -> None:
    """The shortcut on a message: the form, with the message as the statement. Nothing runs by it: whoever
    chose it reads in the form what was taken, and sends that.
    """
    text = from_slack(str((body.get("message") or {}).get("text") or "")).strip()
    channel = str((body.get("channel") or {}).get("id") or "")
    if len(statement_in(text)) > MAX_TEXT:
        long = f"This message is longer than the {MAX_TEXT} characters of a form. Use `access run` instead."
        await _open_form(desk, body, lambda _: long, channel)
        return
    await _open_form(desk, body, lambda moment: _draft(moment, text, text=statement_in(text)), channel)


def _draft(moment: Moment, line: str, text: str = "") -> Run:
    """What a line asks to run as far as it is one; `text` is the statement where it is none."""
    if not is_run(line):
        return Run(text=text)
    answer = parse(line, context_of(moment))
    if isinstance(answer, Mistake) and answer.mended:
        answer = parse(answer.mended, context_of(moment))
    return answer if isinstance(answer, Run) else Run(text=text)


async def _open_form(desk: Desk, body: Body, draft: Callable[[Moment], Run | str], channel: str) -> None:
    """Open the form at once, since a trigger lives for three seconds, and fill it in; or say why not."""
    title = "Run a statement"
    try:
        opened = await desk.client.views_open(trigger_id=body["trigger_id"], view=forms.loading(title))
    except TROUBLE as trouble:
        log.info("form_not_opened", problem=error_of(trouble))
        return
    view = forms.notice(title, "This is not for your account.")
    if (moment := await desk.receive(body, channel=channel)) is not None:
        made = draft(moment)
        if isinstance(made, Run):
            view = run_form(context_of(moment).offers, made, channel)
        else:
            view = forms.notice(title, made)
    await desk.client.views_update(view_id=opened["view"]["id"], view=view)


async def run_sent(desk: Desk, body: Body, ack: AsyncAck) -> None:
    """The form was sent."""
    filled = forms.read(body["view"])
    run = read_run_form(filled)
    if not run.text.strip():
        await ack(response_action="errors", errors={filled.block("run_text"): "Write the statement."})
        return
    await ack()
    moment = await desk.receive(body, channel=str(body["view"].get("private_metadata") or ""))
    if moment is None:
        return
    result = await submit_run(moment, run)
    if isinstance(result, Refusal):
        await moment.refuse(result, audited=True)
    else:
        await moment.say(texts.submitted(result))
