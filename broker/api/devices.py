"""Where I am logged in, and the end of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from broker.api.auth import P, Person
from broker.api.models import EmptyIn, In, Name
from broker.api.problems import documented, refused
from broker.identity.devices import Device, Devices
from workflows.model import Refusal

router = APIRouter(prefix="/api/v1/devices", tags=["tokens"], responses=documented(400, 401, 403, 404, 422))

DeviceId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
NO_DEVICE = Refusal("no-such-device", "There is no such login of yours.", "See them: access devices list.")


class DeviceOut(BaseModel):
    """A login, on a command line or in a browser. `used` is right within five minutes."""

    id: str
    kind: str
    since: datetime
    used: datetime
    until: datetime

    @staticmethod
    def of(it: Device) -> DeviceOut:
        return DeviceOut(id=it.id, kind=it.kind, since=it.since, used=it.used, until=it.until)


class AllIn(In):
    principal: Name | None = Field(None, description="Whose logins; nothing means one's own.")


class EndedOut(BaseModel):
    count: int = Field(description="How many logins were good until now.")


@router.get("")
async def devices(person: Person, parts: P) -> list[DeviceOut]:
    """Where I am logged in, the last used first."""
    found = await Devices(parts.service.store, parts.clock).of(person.id)
    return [DeviceOut.of(device) for device in found]


@router.post("/{device}/end")
async def end_device(device: DeviceId, _said: EmptyIn, person: Person, parts: P) -> EndedOut:
    """End one of my logins."""
    known = Devices(parts.service.store, parts.clock)
    count = await known.end(person.id, actor=person.id, via="api", device=device)
    if not count:
        raise refused(NO_DEVICE)
    return EndedOut(count=count)


@router.post("/end-all")
async def end_all_devices(said: AllIn, person: Person, parts: P) -> EndedOut:
    """End all my logins, this one too; as an administrator anybody's."""
    whose = said.principal or person.id
    if whose != person.id and not parts.service.is_admin(person.id):
        raise refused(Refusal("not-an-admin", "Only administrators end the logins of somebody else."))
    known = Devices(parts.service.store, parts.clock)
    return EndedOut(count=await known.end(whose, actor=person.id, via="api"))
