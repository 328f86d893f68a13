"""The test driver: be any of the people, and wait for what they see.

`sandbox.as_user("ada")` gives a Driver. What it returns (messages, views) are snapshots: pressing a button of
an old snapshot fails unless `force=True`, which is how a stale click is made.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any, TypeVar

from .client import Client, Surface, blocks_of, visible_to
from .delivery import Delivery
from .errors import NotPossible
from .state import Channel, Json, Message, State, User, View
from .text_of import text_of
from .values import elements

T = TypeVar("T")
WAIT_SECONDS = 30.0


class NotSeen(AssertionError):
    """What was waited for did not appear in time; says what was there instead."""


class Driver:
    def __init__(self, client: Client, state: State, user: User) -> None:
        self.client = client
        self.state = state
        self.user = user

    @property
    def id(self) -> str:
        return self.user.id

    # -- doing -----------------------------------------------------------------------------------------------

    async def types(
        self, channel: str | Channel, text: str, *, thread: Message | str | None = None, force: bool = False
    ) -> Delivery | Message | None:
        """Type into a channel (or "@portcullis" for the app's direct messages). A text that starts with "/"
        is a command and gives its Delivery once acknowledged (or timed out); else the posted Message."""
        thread_ts = (thread.thread_ts or thread.ts) if isinstance(thread, Message) else thread
        return await self.client.types(self.user, self._channel(channel), text, thread_ts, force=force)

    async def commands(self, text: str, *, channel: str | Channel = "#general") -> Delivery:
        """`types` for a command that the app must know: always a Delivery."""
        delivery = await self.types(channel, text)
        if not isinstance(delivery, Delivery):
            raise NotPossible(f"Slack did not take {text!r} as a command of the app")
        return delivery

    async def clicks(
        self,
        surface: Surface,
        action_id: str,
        *,
        block_id: str | None = None,
        value: str | None = None,
        force: bool = False,
    ) -> Delivery:
        """Press a button by its action id or label; gives the Delivery once acknowledged (or timed out).

        `force=True`: even if the button is gone, hidden from this person, or the message was deleted, and
        with a `value` that differs from the button's (tampering).
        """
        delivery = await self.client.presses(
            self.user, surface, action_id, block_id=block_id, value=value, force=force
        )
        assert delivery is not None
        return delivery

    async def selects(
        self, surface: Surface, action_id: str, choice: Any, *, block_id: str | None = None
    ) -> Delivery | None:
        """Choose in a select, overflow, radio, checkboxes, date or time picker, or type into an input."""
        return await self.client.presses(self.user, surface, action_id, choice, block_id=block_id)

    async def searches(self, surface: Surface, action_id: str, text: str) -> list[Json]:
        """Type into an external select; the options that the app offers."""
        return await self.client.searches(self.user, self._live(surface), action_id, text)

    async def submits(
        self, values: Json | None = None, *, view: View | None = None, force: bool = False
    ) -> Delivery:
        """Fill the top modal in (by action id, block id or label) and press its submit button."""
        top = self._live(view) if view is not None else self._top()
        assert isinstance(top, View)
        return await self.client.submits(self.user, top, values, force=force)

    async def closes(self, *, view: View | None = None, everything: bool = False) -> Delivery | None:
        top = self._live(view) if view is not None else self._top()
        assert isinstance(top, View)
        return await self.client.closes(self.user, top, everything=everything)

    async def opens_home(self, *, timeout: float = WAIT_SECONDS) -> View:
        """Open the app's home tab and wait until the app has published it (again)."""
        before = self.home.hash if self.home else None
        self.client.opens_home(self.user)

        def published() -> View | None:
            view = self.home
            return view if view is not None and view.hash != before else None

        return await self._wait(published, timeout, "the app's home tab to be published")

    async def shortcut(self, callback_id: str, *, message: Message | None = None) -> Delivery:
        return await self.client.shortcut(self.user, callback_id, message)

    def reacts(self, message: Message, name: str) -> None:
        live = self._live(message)
        assert isinstance(live, Message)
        self.client.reacts(self.user, live, name)

    # -- seeing ----------------------------------------------------------------------------------------------

    def messages(self, channel: str | Channel, *, thread: Message | str | None = None) -> list[Message]:
        """What this person sees in a channel (top level) or in a thread: also the own ephemerals."""
        found = self._channel(channel)
        if self.user.id not in found.members:
            return []
        if thread is not None:
            ts = (thread.thread_ts or thread.ts) if isinstance(thread, Message) else thread
            return copy.deepcopy(self.state.replies(found.id, ts, self.user.id))
        seen = [m for m in self.state.in_channel(found.id, self.user.id) if m.thread_ts in (None, m.ts)]
        return copy.deepcopy(seen)

    def everything(self) -> list[Message]:
        """All messages that this person can see, in channels, threads and direct messages, oldest first."""
        mine = [c.id for c in self.state.channels.values() if self.user.id in c.members]
        found = [message for channel in mine for message in self.state.in_channel(channel, self.user.id)]
        return copy.deepcopy(sorted(found, key=lambda message: message.ts))

    def ephemerals(self, channel: str | Channel | None = None) -> list[Message]:
        """ "Only visible to you", everywhere or in one channel."""
        within = self._channel(channel).id if channel is not None else None
        return [m for m in self.everything() if m.ephemeral_for and within in (None, m.channel)]

    def dms(self) -> list[Message]:
        """The direct messages with the app."""
        return self.messages(f"@{self.client.core.app.handle}")

    @property
    def modals(self) -> list[View]:
        return copy.deepcopy(self.state.modals.get(self.user.id, []))

    @property
    def modal(self) -> View | None:
        """The top modal, or None."""
        return self.modals[-1] if self.modals else None

    @property
    def home(self) -> View | None:
        return copy.deepcopy(self.state.homes.get(self.user.id))

    async def sees(
        self,
        text: str,
        *,
        channel: str | Channel | None = None,
        thread: Message | None = None,
        ephemeral: bool | None = None,
        timeout: float = WAIT_SECONDS,
    ) -> Message:
        """Wait for a message that holds `text` (in its text or blocks); the newest such one."""

        def found() -> Message | None:
            for message in reversed(self._seen(channel, thread)):
                if ephemeral is not None and ephemeral != (message.ephemeral_for is not None):
                    continue
                if text in text_of(message):
                    return message
            return None

        return await self._wait(found, timeout, f"a message holding {text!r}")

    async def sees_modal(self, text: str = "", *, timeout: float = WAIT_SECONDS) -> View:
        """Wait until the top modal holds `text`."""

        def found() -> View | None:
            top = self.modal
            return top if top is not None and text in text_of(top) else None

        return await self._wait(found, timeout, f"a modal holding {text!r}")

    async def sees_home(self, text: str = "", *, timeout: float = WAIT_SECONDS) -> View:
        def found() -> View | None:
            home = self.home
            return home if home is not None and text in text_of(home) else None

        return await self._wait(found, timeout, f"a home tab holding {text!r}")

    async def sees_change(
        self, message: Message, text: str = "", *, timeout: float = WAIT_SECONDS
    ) -> Message:
        """Wait until the message was edited since the snapshot, and holds `text`; the new snapshot."""

        def found() -> Message | None:
            now = self.state.message(message.channel, message.ts)
            changed = now is not None and (now.edited_ts != message.edited_ts or now.blocks != message.blocks)
            return copy.deepcopy(now) if changed and now is not None and text in text_of(now) else None

        return await self._wait(found, timeout, f"the message to change to {text!r}")

    def now(self, message: Message) -> Message | None:
        """The message as it is now; None where it was deleted."""
        return copy.deepcopy(self.state.message(message.channel, message.ts))

    def buttons(self, surface: Surface) -> list[str]:
        """Labels of the buttons on a surface that this person can see."""
        return [
            element["text"]["text"]
            for _, element in elements(blocks_of(surface))
            if element["type"] == "button" and visible_to(element, self.user.id)
        ]

    # -- helpers ---------------------------------------------------------------------------------------------

    def _seen(self, channel: str | Channel | None, thread: Message | None) -> list[Message]:
        if thread is not None:
            return self.messages(self.state.channels[thread.channel], thread=thread)
        if channel is not None:
            within = self._channel(channel).id
            return [message for message in self.everything() if message.channel == within]
        return self.everything()

    def _channel(self, name: str | Channel) -> Channel:
        if isinstance(name, Channel):
            return name
        if name.startswith("@"):
            return self.state.im_between(self.user.id, self.state.user_named(name).id)
        return self.state.channel_named(name)

    def _top(self) -> View:
        stack = self.state.modals.get(self.user.id)
        if not stack:
            raise NotPossible(f"{self.user.name} has no modal open")
        return stack[-1]

    def _live(self, surface: Surface) -> Surface:
        if isinstance(surface, Message):
            live: Surface | None = self.state.message(surface.channel, surface.ts)
        else:
            live = self.state.view(surface.id)
        if live is None:
            raise NotPossible("this message or view is gone")
        return live

    async def _wait(self, found: Callable[[], T | None], timeout: float, what: str) -> T:
        changed = asyncio.Event()
        self.state.listeners.append(changed.set)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed.clear()
                    result = found()
                    if result is not None:
                        return result
                    await changed.wait()
        except TimeoutError:
            there = "\n".join(f"  {m.channel} {m.ts}: {text_of(m)[:200]}" for m in self.everything()[-12:])
            modal = f"\n  modal: {text_of(self.modal)[:300]}" if self.modal else ""
            raise NotSeen(
                f"{self.user.name} waited {timeout} s for {what}; sees:\n{there or '  nothing'}{modal}"
            ) from None
        finally:
            self.state.listeners.remove(changed.set)
