"""SCIM: what Okta and Entra ID really send, and what it does to people here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from broker.api.app import create_api
from broker.api.parts import Parts
from broker.audit import all_entries
from broker.clock import SystemChance
from broker.config import Config
from broker.identity.tokens import TokenKind
from broker.store import links, sessions
from broker.store.links import SlackLink
from broker.store.sessions import SessionRecord
from workflows.model import Group

Json = dict[str, Any]
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@pytest.fixture
def config(config: Config) -> Config:
    """The sample policy, which takes people from a provider; dba has another name there."""
    groups = {**config.policy.groups, "platform": Group("platform")}
    policy = replace(config.policy, groups=groups)
    names = {name: name for name in groups} | {"Okta-DBA": "dba"}
    del names["dba"]
    return replace(config, policy=policy, provisioned=True, provider_groups=names)


@pytest.fixture
def parts(parts: Parts, config: Config) -> Parts:
    parts.service._config = lambda: config
    return parts


@pytest.fixture
async def okta(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a token for provisioning."""
    issued = await parts.tokens.issue(TokenKind.SCIM, "scim:okta", via="cli", label="okta")
    async with client_of(create_api(parts), issued.token) as client:
        yield client


def client_of(app: FastAPI, token: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://broker.test",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json"},
    )


def okta_user(name: str = "ada@example.com", **more: Any) -> Json:
    """As Okta creates a user."""
    return {
        "schemas": [USER],
        "userName": name,
        "name": {"givenName": name.partition("@")[0].title(), "familyName": "Of Okta"},
        "emails": [{"primary": True, "value": name, "type": "work"}],
        "displayName": f"{name.partition('@')[0].title()} Of Okta",
        "locale": "en-US",
        "externalId": f"00u{name}",
        "groups": [],
        "password": "1mz050nq",
        "active": True,
        **more,
    }


def entra_user(name: str = "ada@example.com", **more: Any) -> Json:
    """As Entra ID creates one."""
    return {
        "schemas": [USER, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
        "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
        "userName": name,
        "active": True,
        "emails": [{"primary": True, "type": "work", "value": name}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Given Family", "familyName": "Family", "givenName": "Given"},
        "roles": [],
        **more,
    }


async def made(client: httpx2.AsyncClient, body: Json, kind: str = "Users") -> Json:
    answer = await client.post(f"/scim/v2/{kind}", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def patched(client: httpx2.AsyncClient, place: str, *operations: Json) -> Json:
    body = {"schemas": [PATCH], "Operations": list(operations)}
    answer = await client.patch(f"/scim/v2/{place}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_what_okta_does_with_a_user(okta: httpx2.AsyncClient, parts: Parts) -> None:
    """Look, create, look again, update whole, deactivate, reactivate: the calls of Okta's own test suite."""
    there = await okta.get("/scim/v2/Users", params={"filter": 'userName eq "new.one@example.com"'})
    assert there.headers["content-type"] == "application/scim+json"
    assert (there.json()["totalResults"], there.json().get("Resources", [])) == (0, [])
    user = await made(okta, okta_user("new.one@example.com"))
    assert "password" not in str(user)
    assert user["meta"]["location"] == f"http://broker.test/scim/v2/Users/{user['id']}"
    there = await okta.get(
        "/scim/v2/Users",
        params={"filter": 'userName eq "NEW.one@example.com"', "startIndex": 1, "count": 100},
    )
    assert [it["id"] for it in there.json()["Resources"]] == [user["id"]]
    again = await okta.post("/scim/v2/Users", json=okta_user("new.one@example.com"))
    assert (again.status_code, again.json()["scimType"]) == (409, "uniqueness")

    person = parts.service.principal("new.one")
    assert person is not None
    assert (person.active, person.name, person.email) == (True, "New.One Of Okta", "new.one@example.com")
    renamed = {**okta_user("new.one@example.com"), "displayName": "Renamed", "id": user["id"]}
    assert (await okta.put(f"/scim/v2/Users/{user['id']}", json=renamed)).status_code == 200
    assert parts.service.principal("new.one").name == "Renamed"  # type: ignore[union-attr]

    ended = await patched(okta, f"Users/{user['id']}", {"op": "replace", "value": {"active": False}})
    assert ended["active"] is False
    assert parts.service.principal("new.one").active is False  # type: ignore[union-attr]
    await patched(okta, f"Users/{user['id']}", {"op": "replace", "value": {"active": True}})
    assert parts.service.principal("new.one").active is True  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "Replace", "path": "active", "value": "False"},
        {"op": "replace", "path": "active", "value": False},
        {"op": "Replace", "value": {"active": "False"}},
        {"op": "replace", "value": {"id": "not mine to say", "active": False}},
        {"op": "Add", "path": "active", "value": "false"},
        {"op": "Replace", "path": "active", "value": [{"value": "False"}]},
    ],
)
async def test_every_dialect_of_deactivating_deactivates(
    operation: Json, okta: httpx2.AsyncClient, parts: Parts
) -> None:
    user = await made(okta, entra_user("new@example.com"))
    assert (await patched(okta, f"Users/{user['id']}", operation))["active"] is False
    assert parts.service.principal("new").active is False  # type: ignore[union-attr]


async def test_what_is_neither_yes_nor_no_deactivates_nobody_and_activates_nobody(
    okta: httpx2.AsyncClient, parts: Parts
) -> None:
    user = await made(okta, okta_user("new@example.com", active=False))
    for value in ("maybe", 7, {"a": 1}):
        body = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": value}]}
        assert (await okta.patch(f"/scim/v2/Users/{user['id']}", json=body)).status_code == 400
    assert parts.service.principal("new").active is False  # type: ignore[union-attr]


async def test_entra_changes_attributes_by_paths_in_a_value_and_by_filters_that_match_nothing(
    okta: httpx2.AsyncClient,
) -> None:
    user = await made(okta, {**entra_user("new@example.com"), "emails": []})
    changed = await patched(
        okta,
        f"Users/{user['id']}",
        {"op": "Replace", "value": {"displayName": "Ada L.", "name.familyName": "Lovelace"}},
        {"op": "Add", "path": 'emails[type eq "work"].value', "value": "ada.l@example.com"},
        {
            "op": "Replace",
            "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
            "value": "R",
        },
    )
    assert (changed["displayName"], changed["name"]["familyName"]) == ("Ada L.", "Lovelace")
    assert [it["value"] for it in changed["emails"]] == ["ada.l@example.com"]


async def test_groups_are_pushed_and_their_members_come_and_go_in_every_dialect(
    okta: httpx2.AsyncClient, parts: Parts
) -> None:
    one, two = [(await made(okta, okta_user(f"{name}@example.com")))["id"] for name in ("new", "newer")]
    group = await made(okta, {"schemas": [GROUP], "displayName": "Okta-DBA", "members": []}, "Groups")
    place = f"Groups/{group['id']}"

    def groups(name: str) -> frozenset[str]:
        found = parts.service.principal(name)
        assert found is not None
        return found.groups

    await patched(okta, place, {"op": "add", "path": "members", "value": [{"value": one, "display": "x"}]})
    assert groups("new") == {"dba"}
    await patched(okta, place, {"op": "Add", "path": "members", "value": [{"value": two}]})
    assert groups("newer") == {"dba"}
    # RFC 7644 and Okta, then Entra, which names the member in the value.
    await patched(okta, place, {"op": "remove", "path": f'members[value eq "{one}"]'})
    assert groups("new") == frozenset()
    await patched(okta, place, {"op": "Remove", "path": "members", "value": [{"value": two}]})
    assert groups("newer") == frozenset()
    await patched(
        okta, place, {"op": "replace", "path": "members", "value": [{"value": one}, {"value": two}]}
    )
    assert groups("new") == groups("newer") == {"dba"}
    renamed = {"id": group["id"], "displayName": "platform"}
    await patched(okta, place, {"op": "replace", "value": renamed})
    assert groups("new") == {"platform"}
    found = (await okta.get(f"/scim/v2/Users/{one}")).json()
    assert [it["display"] for it in found["groups"]] == ["platform"]
    assert (await okta.delete(f"/scim/v2/{place}")).status_code == 204
    assert groups("new") == frozenset()


async def test_a_person_of_the_file_is_active_where_both_say_so_and_in_the_groups_of_either(
    okta: httpx2.AsyncClient, parts: Parts
) -> None:
    user = await made(okta, okta_user("ada@example.com"))
    await made(
        okta, {"schemas": [GROUP], "displayName": "platform", "members": [{"value": user["id"]}]}, "Groups"
    )
    ada = parts.service.principal("ada")
    assert ada is not None
    assert (ada.groups, ada.active) == ({"engineers", "platform"}, True)
    second = await okta.post(
        "/scim/v2/Users", json={**okta_user("ada.two@example.com"), "emails": [{"value": "ada@example.com"}]}
    )
    assert second.status_code == 409
    # A new address at the provider does not part her from the one who is deactivated.
    await patched(
        okta, f"Users/{user['id']}", {"op": "replace", "path": "emails", "value": [{"value": "l@x.org"}]}
    )
    await patched(okta, f"Users/{user['id']}", {"op": "replace", "path": "active", "value": False})
    assert parts.service.principal("ada").active is False  # type: ignore[union-attr]
    assert (await okta.delete(f"/scim/v2/Users/{user['id']}")).status_code == 204
    assert parts.service.principal("ada").active is False  # type: ignore[union-attr]
    await made(okta, okta_user("ada@example.com"))
    assert parts.service.principal("ada").active is True  # type: ignore[union-attr]


async def test_a_name_is_never_given_twice(okta: httpx2.AsyncClient, parts: Parts) -> None:
    first = await made(okta, okta_user("kim@example.com"))
    assert (await okta.delete(f"/scim/v2/Users/{first['id']}")).status_code == 204
    await made(okta, okta_user("kim@example.com"))
    old, new = parts.service.principal("kim"), parts.service.principal("kim-2")
    assert old is not None
    assert new is not None
    assert (old.active, new.active) == (False, True)
    # Nor one of the file, by somebody whose address only begins like it.
    await made(okta, okta_user("grace@elsewhere.org"))
    grace = parts.service.principal("grace")
    assert grace is not None
    assert grace.email == "grace@example.com"
    assert parts.service.principal("grace-2") is not None


async def test_two_people_under_one_name_are_nobody(
    okta: httpx2.AsyncClient, parts: Parts, config: Config
) -> None:
    await made(okta, okta_user("kim@example.com"))
    people = dict(config.directory.people)
    ada = people["ada"]
    people["kim"] = replace(ada, principal=replace(ada.principal, id="kim", email="kim@elsewhere.org"))
    later = replace(config, directory=replace(config.directory, people=people))
    parts.service._config = lambda: later
    assert parts.service.principal("kim").active is False  # type: ignore[union-attr]


async def test_whoever_is_deactivated_is_logged_out_unlinked_and_cut_at_once(
    okta: httpx2.AsyncClient, parts: Parts
) -> None:
    user = await made(okta, okta_user("ada@example.com"))
    service, now = parts.service, parts.clock.now()
    login = await parts.tokens.issue(TokenKind.LOGIN, "ada", via="cli")
    record = SessionRecord(
        "S-1",
        "R-1",
        "G-1",
        "ada",
        "prod-db",
        "readonly",
        "g1",
        "postgres",
        "c",
        now,
        now + timedelta(seconds=9),
    )
    async with service.store.write() as tx:
        await sessions.add(tx, record)
        await links.add(tx, SlackLink("T1", "U9", "ada", "ada@example.com", "", "login", now))
    began = time.monotonic()
    await patched(okta, f"Users/{user['id']}", {"op": "Replace", "path": "active", "value": "False"})
    assert time.monotonic() - began < 5
    assert await parts.tokens.check(TokenKind.LOGIN, login.token) is None
    async with service.store.read() as tx:
        killed = await sessions.find(tx, "S-1")
        assert killed is not None
        assert killed.killed_at is not None
        assert killed.killed_by == "scim:okta"
        assert await links.of_account(tx, "T1", "U9") is None
        told = [e async for e in all_entries(tx) if e.kind == "scim.user_changed"]
    assert '"sessions":1' in told[-1].body


async def test_pages_filters_and_what_is_left_out(okta: httpx2.AsyncClient, clock: Any) -> None:
    for n in range(5):
        clock.advance(seconds=1)
        await made(okta, okta_user(f"p{n}@example.com", active=n % 2 == 0))
    page = (await okta.get("/scim/v2/Users", params={"startIndex": 2, "count": 2})).json()
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
    assert [it["userName"] for it in page["Resources"]] == ["p1@example.com", "p2@example.com"]
    none = (await okta.get("/scim/v2/Users", params={"count": 0})).json()
    assert (none["totalResults"], none.get("Resources", [])) == (5, [])
    wanted = 'active eq false and emails[value co "p3"]'
    found = (await okta.get("/scim/v2/Users", params={"filter": wanted})).json()
    assert [it["userName"] for it in found["Resources"]] == ["p3@example.com"]
    body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": 'userName sw "p4"'}
    assert (await okta.post("/scim/v2/Users/.search", json=body)).json()["totalResults"] == 1
    little = (await okta.get("/scim/v2/Users", params={"attributes": "userName", "count": 1})).json()
    assert "emails" not in little["Resources"][0]
    wrong = await okta.get("/scim/v2/Users", params={"filter": "userName eq"})
    assert (wrong.status_code, wrong.json()["scimType"]) == (400, "invalidFilter")


async def test_a_change_of_what_somebody_else_has_changed_is_refused(okta: httpx2.AsyncClient) -> None:
    user = await made(okta, okta_user("new@example.com"))
    place, etag = f"/scim/v2/Users/{user['id']}", user["meta"]["version"]
    assert (await okta.get(place, headers={"If-None-Match": etag})).status_code == 304
    await patched(okta, f"Users/{user['id']}", {"op": "replace", "path": "displayName", "value": "B"})
    body = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "displayName", "value": "C"}]}
    stale = await okta.patch(place, json=body, headers={"If-Match": etag})
    assert stale.status_code == 412
    assert (await okta.delete(place, headers={"If-Match": etag})).status_code == 412
    assert (await okta.get(place)).json()["displayName"] == "B"


async def test_it_takes_its_own_token_and_a_policy_that_says_so(
    okta: httpx2.AsyncClient, parts: Parts, config: Config
) -> None:
    login = await parts.tokens.issue(TokenKind.LOGIN, "sam", via="cli")
    entry = await parts.tokens.issue(TokenKind.ENTRY, "sam", via="cli")
    app = create_api(parts)
    for token in (login.token, entry.token, "pcs_guessed", "", "ünicode"):
        async with client_of(app, "x") as client:
            headers = {"Authorization": f"Bearer {token}".encode()}
            assert (await client.get("/scim/v2/Users", headers=headers)).status_code == 401
    # And its token opens nothing else.
    assert (await okta.get("/api/v1/me")).status_code == 401
    parts.service._config = lambda: replace(config, provisioned=False)
    assert (await okta.get("/scim/v2/Users")).status_code == 403
    parts.service._config = lambda: config
    listed = await ask(parts, "sam", "GET", "/api/v1/provisioning/tokens")
    key = listed.json()[0]["id"]
    assert (await ask(parts, "ada", "POST", f"/api/v1/provisioning/tokens/{key}/end")).status_code == 403
    assert (await ask(parts, "sam", "POST", f"/api/v1/provisioning/tokens/{key}/end")).status_code == 204
    assert (await okta.get("/scim/v2/Users")).status_code == 401


async def ask(parts: Parts, who: str, method: str, path: str) -> httpx2.Response:
    issued = await parts.tokens.issue(TokenKind.LOGIN, who, via="cli")
    async with client_of(create_api(parts), issued.token) as client:
        return await client.request(method, path, json={} if method == "POST" else None)


async def test_it_describes_itself(okta: httpx2.AsyncClient) -> None:
    config = (await okta.get("/scim/v2/ServiceProviderConfig")).json()
    assert (config["patch"]["supported"], config["bulk"]["supported"], config["etag"]["supported"]) == (
        True,
        False,
        True,
    )
    kinds = (await okta.get("/scim/v2/ResourceTypes")).json()
    assert {it["name"] for it in kinds["Resources"]} == {"User", "Group"}
    assert (await okta.get(f"/scim/v2/Schemas/{USER}")).json()["id"] == USER
    for nothing in ("Users/none", "Groups/none", "Schemas/none", "ResourceTypes/none"):
        assert (await okta.get(f"/scim/v2/{nothing}")).status_code == 404


async def test_the_compliance_suite_finds_nothing(parts: Parts) -> None:
    """scim2-tester, over a socket of its own."""
    import uvicorn
    from scim2_client.engines.httpx2 import SyncSCIMClient
    from scim2_tester import Status, check_server

    issued = await parts.tokens.issue(TokenKind.SCIM, "scim:tester", via="cli", label="tester")
    server = uvicorn.Server(uvicorn.Config(create_api(parts), port=0, log_level="error", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def check() -> list[Any]:
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{port}/scim/v2",
            headers={"Authorization": f"Bearer {issued.token}"},
            timeout=60,
        ) as http:
            client = SyncSCIMClient(http)
            client.discover()
            return list(check_server(client))

    parts.service.chance = SystemChance()
    try:
        found = await asyncio.to_thread(check)
    finally:
        server.should_exit = True
        await task
    fine = (Status.SUCCESS, Status.COMPLIANT, Status.ACCEPTABLE, Status.SKIPPED)
    wrong = [f"{it.title}: {it.reason}" for it in found if it.status not in fine]
    assert len(found) > 20
    assert not wrong, "\n".join(wrong)
