"""Devices over HTTP: mine to see and to end, an administrator's to end for anybody."""

from __future__ import annotations

from typing import Any


async def test_a_device_is_listed_and_ended_and_its_token_is_good_for_nothing(call: Any) -> None:
    one, other = await call("ada"), await call("ada")
    listed = (await one.get("/api/v1/devices")).json()
    assert [it["kind"] for it in listed] == ["command line"] * 2
    stranger = await (await call("grace")).post(f"/api/v1/devices/{listed[0]['id']}/end", json={})
    assert stranger.status_code == 404
    for it in listed:
        await one.post(f"/api/v1/devices/{it['id']}/end", json={})
    answers = [(await client.get("/api/v1/devices")).status_code for client in (one, other)]
    assert 401 in answers


async def test_only_an_administrator_ends_the_logins_of_somebody_else(call: Any) -> None:
    ada = await call("ada")
    refused = await (await call("grace")).post("/api/v1/devices/end-all", json={"principal": "ada"})
    assert refused.status_code == 403
    done = await (await call("sam")).post("/api/v1/devices/end-all", json={"principal": "ada"})
    assert done.json() == {"count": 1}
    assert (await ada.get("/api/v1/me")).status_code == 401
