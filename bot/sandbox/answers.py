"""What the app answers: acknowledgement bodies and posts to response URLs, applied to the state."""

from __future__ import annotations

from typing import Any

from .core import Core
from .delivery import Delivery
from .errors import SlackError
from .methods_chat import valid_blocks
from .methods_views import checked_view, put_modal, replace_view
from .state import Json, Message, ResponseUrl, View

TROUBLE = "We had some trouble connecting. Try again?"


def command_answered(core: Core, user: str, channel: str, name: str, delivery: Delivery) -> None:
    """A command's acknowledgement may carry a message; a missing one is told to the person by Slackbot."""
    if delivery.error is not None:
        core.slackbot_says(user, channel, f'{name} failed with the error "{delivery.error}"')
        return
    answer = delivery.response
    if isinstance(answer, str) and answer.strip():
        answer = {"text": answer}
    if isinstance(answer, dict) and (answer.get("text") or answer.get("blocks")):
        try:
            _post_answer(core, ResponseUrl(user, channel, 0), answer)
        except SlackError as error:
            delivery.error = error.code
            core.slackbot_says(user, channel, f'{name} failed with the error "{error.code}"')


def _post_answer(core: Core, place: ResponseUrl, answer: Json) -> Message:
    blocks = valid_blocks(core.state, answer["blocks"]) if answer.get("blocks") else []
    text = str(answer.get("text") or "")
    if not text and not blocks:
        raise SlackError("no_text")
    public = answer.get("response_type") == "in_channel"
    thread_ts = answer.get("thread_ts") or place.thread_ts
    message = Message(
        core.state.new_ts(),
        place.channel,
        core.bot_user,
        text,
        blocks,
        thread_ts,
        core.bot_id,
        ephemeral_for=None if public else place.user,
    )
    return core.post(message)


def response_url_used(core: Core, key: str, answer: Any) -> None:
    """A post to a response URL: a new message, or the original one replaced or deleted.

    Raises SlackError where the URL is unknown, spent or expired, or the message is not valid.
    """
    if not isinstance(answer, dict):
        raise SlackError("invalid_payload", status=400)
    place = core.state.spend_response_url(key)
    original = core.state.message(place.channel, place.message_ts) if place.message_ts else None
    if answer.get("delete_original"):
        if original is not None:
            core.state.remove_message(place.channel, original.ts)
        return
    if answer.get("replace_original") and original is not None:
        blocks = valid_blocks(core.state, answer["blocks"]) if answer.get("blocks") else []
        original.text, original.blocks = str(answer.get("text") or ""), blocks
        original.edited_ts = core.state.new_ts()
        core.state.changed()
        return
    _post_answer(core, place, answer)


def submission_answered(core: Core, view: View, delivery: Delivery) -> None:
    """`response_action` errors, update, push or clear; nothing at all closes the view."""
    stack = core.state.modals.get(view.user, [])
    if delivery.error is not None:
        view.errors = {"": TROUBLE}
        core.state.changed()
        return
    answer = delivery.response if isinstance(delivery.response, dict) else {}
    action = answer.get("response_action")
    try:
        if action == "errors":
            _show_errors(view, answer.get("errors"))
        elif action == "update":
            replace_view(core, view, checked_view(core, answer.get("view"), "modal"))
        elif action == "push":
            put_modal(core, view.user, checked_view(core, answer.get("view"), "modal"), push=True)
        elif action == "clear":
            core.state.modals.pop(view.user, None)
        elif view in stack:
            core.state.modals[view.user] = stack[: stack.index(view)]
    except SlackError as error:
        delivery.error = error.code
        view.errors = {"": TROUBLE}
    core.state.changed()


def _show_errors(view: View, errors: Any) -> None:
    inputs = {block["block_id"] for block in view.payload["blocks"] if block["type"] == "input"}
    if not isinstance(errors, dict) or not errors or not set(errors) <= inputs:
        raise SlackError("invalid_errors")
    view.errors = {str(block): str(text) for block, text in errors.items()}
