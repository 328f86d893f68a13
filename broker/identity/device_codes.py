"""Short codes that somebody confirms in a browser, in the manner of RFC 8628: for whoever waits without one.

What waits (a command line, or an SSH client at the gate) is told by a secret that is never shown; people see
the short code, and what it would log in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from broker.clock import Chance
from broker.identity.kept import Keep, Kind
from workflows.model import Principal

DEVICE_LIFETIME = timedelta(minutes=10)
_PENDING = "pending"

DeviceState = Literal["pending", "denied", "gone"]


@dataclass(frozen=True, slots=True)
class DeviceStarted:
    """What somebody without a browser shows (`user_code`) and keeps (`device_code`)."""

    device_code: str
    user_code: str


class DeviceCodes:
    def __init__(self, keep: Keep, chance: Chance) -> None:
        self._keep = keep
        self._chance = chance

    async def start(self, what: str = "") -> DeviceStarted:
        """A code to be confirmed; `what` says whom it logs in, where that is no command line."""
        user_code = "-".join(self._chance.id("", 4).lstrip("-") for _ in range(2))
        payload = f"{_PENDING} {what}".strip()
        device_code = await self._keep.put(Kind.DEVICE, DEVICE_LIFETIME, label=user_code, payload=payload)
        return DeviceStarted(device_code, user_code)

    async def waits(self, user_code: str) -> str | None:
        """What waits for this code to be confirmed; None where nothing does, "" for a command line."""
        kept = await self._keep.labelled(Kind.DEVICE, tidy_code(user_code))
        return None if kept is None else kept.payload.partition(" ")[2]

    async def decide(self, user_code: str, person: Principal, *, yes: bool, origin: str = "") -> bool:
        """Somebody in a browser says that it is theirs, or not. False where nothing waits."""
        payload = "confirmed" if yes else "denied"
        return await self._keep.claim(
            Kind.DEVICE, tidy_code(user_code), principal=person.id, payload=payload, origin=origin
        )

    async def take(self, device_code: str) -> tuple[str, str] | DeviceState:
        """Who confirmed it and by which login at the identity provider, once, or how things stand."""
        kept = await self._keep.look(Kind.DEVICE, device_code)
        if kept is None:
            return "gone"
        if kept.payload.partition(" ")[0] == _PENDING:
            return "pending"
        taken = await self._keep.take(Kind.DEVICE, device_code)
        if taken is None:
            return "gone"
        return (taken.principal, taken.origin) if taken.payload == "confirmed" else "denied"


def tidy_code(text: str) -> str:
    """A short code as it was given out, however it was typed (Crockford's reading of I, L and O)."""
    plain = "".join(c for c in text.upper() if c.isalnum()).translate(str.maketrans("ILO", "110"))
    return f"{plain[:4]}-{plain[4:]}"
