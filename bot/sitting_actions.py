"""Ending one session of an emergency from its thread."""

from __future__ import annotations

import re

from bot.actions import KILLED, TAMPERED, belongs, value_of
from bot.desk import Body, Desk
from broker.sessions import Sessions
from workflows.model import Refusal

_VALUE = re.compile(r"(R-[0-9A-Z]{6,12}):([0-9]{1,6}) (S-[0-9A-Z]{1,26})")


async def kill_session(desk: Desk, body: Body) -> None:
    """The button of one session. Whether the presser may, and whether it is open, is decided now."""
    match = _VALUE.fullmatch(value_of(body))
    moment = await desk.receive(body, about=match[1] if match else "")
    if moment is None:
        return
    if match is None or not await belongs(desk, body, match[1], int(match[2])):
        await moment.refuse(TAMPERED, match[1] if match else "")
        return
    found = await moment.service.session(match[3], moment.actor)
    if not isinstance(found, Refusal) and found.request_id != match[1]:
        await moment.refuse(TAMPERED, match[1])
        return
    result = await Sessions(moment.service).kill(match[3], moment.actor, via="slack", reason=KILLED)
    if isinstance(result, Refusal):
        await moment.refuse(result, match[1], audited=True)
