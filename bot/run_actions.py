"""Submitting one statement from Slack: the form, and what was filled in."""

from __future__ import annotations

from slack_bolt.context.ack.async_ack import AsyncAck

from bot import forms, texts
from bot.commands import context_of, run_line, submit_run
from bot.desk import Body, Desk, log
from bot.run_forms import read_run_form, run_form
from bot.slack import TROUBLE, error_of
from workflows.grammar import Mistake, Run, parse
from workflows.model import Refusal
from workflows.run_lines import is_run


async def run_command(desk: Desk, body: Body, line: str) -> None:
    """`/access run …`: a whole line is done; one without a statement opens the form, filled in so far."""
    if len(line.split()) > 2:
        if (moment := await desk.receive(body)) is not None:
            await run_line(moment, line)
        return
    try:
        opened = await desk.client.views_open(
            trigger_id=body["trigger_id"], view=forms.loading("Run a statement")
        )
    except TROUBLE as trouble:
        log.info("form_not_opened", problem=error_of(trouble))
        return
    view = forms.notice("Run a statement", "This is not for your account.")
    if (moment := await desk.receive(body)) is not None:
        answer = parse(line, context_of(moment)) if is_run(line) else Run()
        if isinstance(answer, Mistake) and answer.mended:
            answer = parse(answer.mended, context_of(moment))
        draft = answer if isinstance(answer, Run) else Run()
        view = run_form(context_of(moment).offers, draft, str(body.get("channel_id") or ""))
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
