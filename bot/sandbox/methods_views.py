"""views.*: modals with a stack of three, and home tabs."""

from __future__ import annotations

import copy

from .block_kit_rules import check_view
from .core import Core
from .errors import SlackError
from .method import Call, invalid_arguments, method
from .methods_chat import name_parts
from .state import Json, View
from .values import values_of

STACK = 3


def view_json(core: Core, view: View) -> Json:
    """A view as the Web API and interaction payloads show it."""
    payload = view.payload
    body: Json = {
        "id": view.id,
        "team_id": core.workspace.team_id,
        "type": payload["type"],
        "blocks": payload["blocks"],
        "private_metadata": payload.get("private_metadata", ""),
        "callback_id": payload.get("callback_id", ""),
        "external_id": payload.get("external_id", ""),
        "state": {"values": values_of(payload["blocks"], core.state.inputs.get(input_key(view), {}))},
        "hash": view.hash,
        "root_view_id": view.root_view_id,
        "previous_view_id": view.previous_view_id,
        "app_id": core.app.id,
        "app_installed_team_id": core.workspace.team_id,
        "bot_id": core.bot_id,
        "clear_on_close": payload.get("clear_on_close", False),
        "notify_on_close": payload.get("notify_on_close", False),
    }
    for part in ("title", "submit", "close"):
        body[part] = payload.get(part)
    return body


def input_key(view: View) -> str:
    return f"view:{view.id}"


def checked_view(core: Core, view: object, kind: str) -> Json:
    problems = check_view(view, kind)
    if problems or not isinstance(view, dict):
        raise invalid_arguments(*problems)
    payload = copy.deepcopy(view)
    name_parts(core.state, payload["blocks"])
    return payload


def _view_argument(call: Call, kind: str) -> Json:
    view = call.json_value("view", "invalid_arguments")
    if view is None:
        raise invalid_arguments("[ERROR] missing required field: view")
    payload = checked_view(call.core, view, kind)
    external = payload.get("external_id")
    if (
        external
        and call.method in ("views.open", "views.push")
        and call.core.state.view(external_id=external)
    ):
        raise SlackError("duplicate_external_id")
    return payload


def put_modal(core: Core, user: str, payload: Json, *, push: bool) -> View:
    """Open a modal for a person: on top of the stack when pushed, else instead of whatever was open."""
    stack = core.state.modals.get(user, []) if push else []
    if len(stack) >= STACK:
        raise SlackError("push_limit_reached")
    view = View(core.state.new_id("V"), user, payload, core.state.new_hash())
    view.root_view_id = stack[0].id if stack else view.id
    view.previous_view_id = stack[-1].id if stack else None
    core.state.modals[user] = [*stack, view]
    core.state.changed()
    return view


def replace_view(core: Core, view: View, payload: Json) -> View:
    """New contents under the same id. What was typed stays where block id and action id stay the same."""
    view.payload = payload
    view.hash = core.state.new_hash()
    view.errors = {}
    core.state.changed()
    return view


@method("views.open", tier=4)
def views_open(call: Call) -> Json:
    payload = _view_argument(call, "modal")
    trigger = call.core.state.exchange_trigger(call.required("trigger_id"))
    view = put_modal(call.core, trigger.user, payload, push=False)
    return {"view": view_json(call.core, view)}


@method("views.push", tier=4)
def views_push(call: Call) -> Json:
    payload = _view_argument(call, "modal")
    trigger = call.core.state.exchange_trigger(call.required("trigger_id"))
    if not call.core.state.modals.get(trigger.user):
        raise SlackError("not_found")
    return {"view": view_json(call.core, put_modal(call.core, trigger.user, payload, push=True))}


@method("views.update", tier=4)
def views_update(call: Call) -> Json:
    payload = _view_argument(call, "modal")
    view = call.core.state.view(call.text("view_id"), call.text("external_id"))
    if view is None or view.payload["type"] != "modal":
        raise SlackError("not_found")
    expected = call.text("hash")
    if expected and expected != view.hash:
        raise SlackError("hash_conflict")
    return {"view": view_json(call.core, replace_view(call.core, view, payload))}


@method("views.publish", tier=4)
def views_publish(call: Call) -> Json:
    user = call.core.state.users.get(call.required("user_id"))
    if user is None:
        raise SlackError("user_not_found")
    payload = _view_argument(call, "home")
    view = call.core.state.homes.get(user.id)
    expected = call.text("hash")
    if expected and view is not None and expected != view.hash:
        raise SlackError("hash_conflict")
    if view is None:
        view = View(call.core.state.new_id("V"), user.id, payload, "")
        view.root_view_id = view.id
        call.core.state.homes[user.id] = view
    return {"view": view_json(call.core, replace_view(call.core, view, payload))}
