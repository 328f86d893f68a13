"""What a person does in Slack's client: types, presses, chooses, submits. Used by the driver and by the page.

Refuses with NotPossible what the real client would not offer: a button that is gone or hidden, a choice that
is not on offer, a command in a thread.
"""

from __future__ import annotations

import copy
from typing import Any

from . import answers, payloads
from .block_kit_rules import check_options
from .core import Core
from .delivery import Deliverer, Delivery
from .errors import NotPossible
from .methods_views import input_key
from .state import Channel, Json, Message, User, View
from .values import chosen, elements, is_stateful, required_and_empty, too_short, values_of

Surface = Message | View


class Client:
    def __init__(self, core: Core, deliverer: Deliverer) -> None:
        self.core = core
        self.deliverer = deliverer
        self._searched: dict[str, list[Json]] = {}

    # -- typing ----------------------------------------------------------------------------------------------

    async def types(
        self, user: User, channel: Channel, text: str, thread_ts: str | None = None, *, force: bool = False
    ) -> Delivery | Message | None:
        """A message, or a slash command where the text starts with one. None where Slackbot refuses it."""
        self._must_be_able(user, force)
        if user.id not in channel.members and not force:
            raise NotPossible(f"{user.name} is not in {channel.name}")
        if channel.is_archived:
            raise NotPossible(f"#{channel.name} is archived")
        if text.startswith("/"):
            name, _, rest = text.partition(" ")
            return await self._command(user, channel, name, rest.strip(), thread_ts)
        body = payloads.escaped(self.core.state, text)
        return self.core.post(
            Message(self.core.state.new_ts(), channel.id, user.id, body, thread_ts=thread_ts)
        )

    async def _command(
        self, user: User, channel: Channel, name: str, text: str, thread_ts: str | None
    ) -> Delivery | None:
        if thread_ts is not None:
            says = f"{name} is not supported in threads. Sorry!"
            self.core.slackbot_says(user.id, channel.id, says, thread_ts)
            return None
        if self.core.app.command(name) is None:
            self.core.slackbot_says(
                user.id,
                channel.id,
                f"`{name}` is not a valid command. In Slack, all messages "
                "that start with the “/” character are interpreted as commands.",
            )
            return None
        payload = payloads.command(self.core, user, channel, name, text)
        delivery = await self.deliverer.send("command", payload)
        answers.command_answered(self.core, user.id, channel.id, name, delivery)
        return delivery

    # -- pressing and choosing -------------------------------------------------------------------------------

    async def presses(
        self,
        user: User,
        surface: Surface,
        action_id: str,
        choice: Any = None,
        *,
        block_id: str | None = None,
        value: str | None = None,
        force: bool = False,
    ) -> Delivery | None:
        """Press a button, or choose in a select, a date picker, … by its action id (or a button's label).

        `force` sends it even if the surface has no such element any more or the person cannot see it;
        `value` then overrides the button's value. None where an input block does not dispatch its action.
        """
        self._must_be_able(user, force)
        current = self._current(surface, force)
        block, element = self._element(user, current, surface, action_id, block_id, force)
        detail: Any = value
        if element["type"] == "overflow":
            detail = {"selected_option": self._overflow(element, choice)}
        elif is_stateful(element):
            detail = self._keep(user, current, block, element, choice)
            if block["type"] == "input" and not block.get("dispatch_action"):
                return None
        elif value is not None and not force:
            raise NotPossible("a person cannot change a button's value; use force=True to tamper")
        body = payloads.block_actions(self.core, user, current, payloads.action(block, element, detail))
        return await self.deliverer.send("block_actions", body)

    async def searches(self, user: User, surface: Surface, action_id: str, text: str) -> list[Json]:
        """Type into an external select: the options that the app offers (groups are flattened)."""
        self._must_be_able(user)
        block, element = self._element(user, surface, surface, action_id, None, False)
        if len(text) < element.get("min_query_length", 3):
            return []
        body = payloads.block_suggestion(self.core, user, surface, block, element, text)
        delivery = await self.deliverer.send("block_suggestion", body)
        answer = delivery.response if isinstance(delivery.response, dict) else {}
        problems = [] if delivery.error else check_options(answer)
        if problems:
            delivery.error = "invalid_options: " + "; ".join(problems)
        if delivery.error:
            return []
        grouped = [option for group in answer.get("option_groups") or [] for option in group["options"]]
        options = [*(answer.get("options") or []), *grouped]
        known = self._searched.setdefault(element["action_id"], [])
        known += [option for option in options if option not in known]
        return options

    def puts_in(self, user: User, surface: Surface, values: Json) -> None:
        """Fill inputs in: by action id, block id or label. NotPossible for a name that is not there."""
        for name, choice in values.items():
            block, element = self._input(surface, name)
            self._keep(user, surface, block, element, choice)

    # -- modals, home, shortcuts -----------------------------------------------------------------------------

    async def submits(
        self, user: User, view: View, values: Json | None = None, *, force: bool = False
    ) -> Delivery:
        self._must_be_able(user, force)
        if "submit" not in view.payload and not force:
            raise NotPossible("this modal has no submit button")
        self.puts_in(user, view, values or {})
        blocks = view.payload["blocks"]
        now = values_of(blocks, self.core.state.inputs.get(input_key(view), {}))
        view.errors = dict.fromkeys(required_and_empty(blocks, now), "Please complete this required field.")
        view.errors |= dict.fromkeys(too_short(blocks, now), "This text is too short.")
        if view.errors and not force:
            self.core.state.changed()
            raise NotPossible(f"the client asks to complete: {', '.join(view.errors)}")
        delivery = await self.deliverer.send(
            "view_submission", payloads.view_submission(self.core, user, view)
        )
        answers.submission_answered(self.core, view, delivery)
        return delivery

    async def closes(self, user: User, view: View, *, everything: bool = False) -> Delivery | None:
        """Cancel: the top view, or the whole stack. The app hears of it where the view notifies on close."""
        stack = self.core.state.modals.get(user.id, [])
        if view not in stack:
            raise NotPossible("this modal is not open")
        everything = everything or bool(view.payload.get("clear_on_close"))
        self.core.state.modals[user.id] = [] if everything else stack[: stack.index(view)]
        self.core.state.changed()
        if not view.payload.get("notify_on_close"):
            return None
        body = payloads.view_closed(self.core, user, view, everything)
        return await self.deliverer.send("view_closed", body)

    def opens_home(self, user: User) -> None:
        self._must_be_able(user)
        event: Json = {
            "type": "app_home_opened",
            "user": user.id,
            "channel": self.core.state.im_between(user.id, self.core.bot_user).id,
            "tab": "home",
            "event_ts": self.core.state.new_ts(),
        }
        home = self.core.state.homes.get(user.id)
        if home is not None:
            event["view"] = payloads.view_container(self.core, home)["view"]
        self.core.emit("app_home_opened", event)

    async def shortcut(self, user: User, callback_id: str, message: Message | None = None) -> Delivery:
        self._must_be_able(user)
        if message is None:
            return await self.deliverer.send("shortcut", payloads.shortcut(self.core, user, callback_id))
        body = payloads.message_shortcut(self.core, user, callback_id, message)
        return await self.deliverer.send("message_action", body)

    def reacts(self, user: User, message: Message, name: str) -> None:
        users = message.reactions.setdefault(name.strip(":"), [])
        if user.id not in users:
            users.append(user.id)
        self.core.state.changed()
        item = {"type": "message", "channel": message.channel, "ts": message.ts}
        event = {"type": "reaction_added", "user": user.id, "reaction": name.strip(":"), "item": item}
        event |= {"item_user": message.user, "event_ts": self.core.state.new_ts()}
        self.core.emit("reaction_added", event)

    # -- look-ups --------------------------------------------------------------------------------------------

    def _must_be_able(self, user: User, force: bool = False) -> None:
        if force:
            return
        if user.deleted:
            raise NotPossible(f"{user.name} is deactivated and cannot sign in")

    def _current(self, surface: Surface, force: bool) -> Surface:
        """The surface as it is now; the given snapshot where it is gone and `force` is set."""
        state = self.core.state
        if isinstance(surface, Message):
            now: Surface | None = state.message(surface.channel, surface.ts)
        else:
            now = state.view(surface.id)
        if now is None and not force:
            raise NotPossible("this message or view is gone")
        return surface if now is None else now

    def _element(
        self, user: User, surface: Surface, seen: Surface, name: str, block_id: str | None, force: bool
    ) -> tuple[Json, Json]:
        can_see = isinstance(surface, View) or self._can_see(user, surface)
        for block, element in elements(blocks_of(surface)):
            if can_see and _is(block, element, name, block_id) and visible_to(element, user.id):
                return block, element
        if not force:
            on_offer = [e["action_id"] for _, e in elements(blocks_of(surface)) if visible_to(e, user.id)]
            raise NotPossible(f"{user.name} sees no {name!r} here; there are {on_offer}")
        for block, element in [*elements(blocks_of(seen)), *elements(blocks_of(surface))]:
            if _is(block, element, name, block_id):
                return copy.deepcopy(block), copy.deepcopy(element)
        invented = {"type": "button", "action_id": name, "text": {"type": "plain_text", "text": name}}
        return {"type": "actions", "block_id": block_id or "gone", "elements": [invented]}, invented

    def _can_see(self, user: User, message: Message) -> bool:
        in_channel = user.id in self.core.state.channels[message.channel].members
        return in_channel and message.ephemeral_for in (None, user.id)

    def _input(self, surface: Surface, name: str) -> tuple[Json, Json]:
        for block, element in elements(blocks_of(surface)):
            label = block.get("label", {}).get("text")
            exact = f"{block['block_id']}/{element['action_id']}"
            if name in (exact, element["action_id"], block["block_id"], label) and is_stateful(element):
                return block, element
        raise NotPossible(f"there is no input {name!r}")

    def _overflow(self, element: Json, choice: Any) -> Json:
        for option in element["options"]:
            if choice in (option["value"], option["text"]["text"]):
                return dict(option)
        raise NotPossible(f"{choice!r} is not in the menu")

    def _keep(self, user: User, surface: Surface, block: Json, element: Json, choice: Any) -> Json:
        known = self._searched.get(element["action_id"], [])
        put_in = chosen(element, choice, known)
        key = surface_key(user, surface)
        kept = self.core.state.inputs.setdefault(key, {})
        kept[f"{block['block_id']}/{element['action_id']}"] = put_in
        return put_in


def surface_key(user: User, surface: Surface) -> str:
    if isinstance(surface, View):
        return input_key(surface)
    return payloads.message_input_key(user.id, surface)


def blocks_of(surface: Surface) -> list[Json]:
    return list(surface.payload["blocks"]) if isinstance(surface, View) else surface.blocks


def visible_to(element: Json, user_id: str) -> bool:
    allowed = element.get("visible_to_user_ids")
    return allowed is None or user_id in allowed


def _is(block: Json, element: Json, name: str, block_id: str | None) -> bool:
    if block_id is not None and block["block_id"] != block_id:
        return False
    label = element.get("text", {}).get("text") if element["type"] == "button" else None
    return name in (element["action_id"], label)
