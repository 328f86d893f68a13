"""The pages under attack: forms from elsewhere, sessions of people who left, text that wants to be markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi.responses import RedirectResponse

from broker.api.login import set_session
from broker.api.parts import Parts
from broker.identity.web import WebSession
from broker.service import Service
from workflows.access import Wish
from workflows.model import Story

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


@pytest.fixture
async def ada(parts: Parts) -> WebSession:
    return await parts.web.open("ada")


@pytest.fixture
async def grant(service: Service, clock: Any) -> str:
    """A live grant of Ada's, whose reason wants to be a script."""
    story = await service.submit("ada", Wish("prod-db", "readonly", timedelta(hours=1), EVIL), via="api")
    assert isinstance(story, Story)
    story = await service.approve(story.request.id, "grace", via="api")
    assert isinstance(story, Story)
    assert story.grant is not None
    return story.grant.id


def as_(session: WebSession) -> dict[str, str]:
    return {"cookie": f"portcullis={session.secret}"}


FORMS = ["/logout", "/enter/G-1", "/device"]


@pytest.mark.parametrize("page", FORMS)
@pytest.mark.parametrize("csrf", ["", "0" * 64, "ü", "the token of another session"])
async def test_a_form_without_this_sessions_token_does_nothing(
    anyone: httpx2.AsyncClient, parts: Parts, ada: WebSession, page: str, csrf: str
) -> None:
    if csrf == "the token of another session":
        csrf = (await parts.web.open("ada")).csrf
    answer = await anyone.post(page, data={"csrf": csrf, "say": "yes", "code": "x"}, headers=as_(ada))
    assert answer.status_code == 403
    assert await parts.web.check(ada.secret) is not None


@pytest.mark.parametrize("page", FORMS)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_form_that_the_browser_says_is_anothers_does_nothing(
    anyone: httpx2.AsyncClient, parts: Parts, ada: WebSession, page: str, site: str
) -> None:
    headers = {**as_(ada), "sec-fetch-site": site}
    answer = await anyone.post(page, data={"csrf": ada.csrf, "say": "yes", "code": "x"}, headers=headers)
    assert answer.status_code == 403
    assert await parts.web.check(ada.secret) is not None


@pytest.mark.parametrize("page", FORMS)
async def test_a_form_of_nobody_does_nothing(anyone: httpx2.AsyncClient, page: str) -> None:
    answer = await anyone.post(page, data={"csrf": "x", "say": "yes"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_the_page_of_a_grant_is_its_holders_alone(
    anyone: httpx2.AsyncClient, parts: Parts, ada: WebSession, grant: str
) -> None:
    grace = await parts.web.open("grace")
    for session, status in ((ada, 200), (grace, 404)):
        shown = await anyone.get(f"/enter/{grant}", headers=as_(session))
        asked = await anyone.post(f"/enter/{grant}", data={"csrf": session.csrf}, headers=as_(session))
        assert (shown.status_code, asked.status_code) == (status, status)
        assert ("pce_" in asked.text) is (status == 200)
        assert "pce_" not in shown.text


async def test_an_open_page_of_somebody_who_left_shows_and_does_nothing(
    anyone: httpx2.AsyncClient, parts: Parts, service: Service, ada: WebSession, grant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    known = service.principal

    def left(name: str) -> Any:
        person = known(name)
        return replace(person, active=False) if person and name == "ada" else person

    monkeypatch.setattr(service, "principal", left)
    shown = await anyone.get(f"/enter/{grant}", headers=as_(ada))
    asked = await anyone.post(f"/enter/{grant}", data={"csrf": ada.csrf}, headers=as_(ada))
    assert shown.status_code == 303
    assert asked.status_code == 403
    assert "pce_" not in asked.text


@pytest.mark.parametrize("page", ["/", "/enter/{grant}", "/device?code={evil}", "/enter/{evil}"])
async def test_no_text_of_a_person_is_markup_on_a_page(
    anyone: httpx2.AsyncClient, ada: WebSession, grant: str, page: str
) -> None:
    address = page.replace("{grant}", grant).replace("{evil}", quote(EVIL, safe=""))
    answer = await anyone.get(address, headers=as_(ada))
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80@broker.test", "broker.test.evil.example"])
async def test_a_forged_host_is_in_no_link_and_in_no_address_to_go_to(
    anyone: httpx2.AsyncClient, ada: WebSession, grant: str, host: str
) -> None:
    headers = {**as_(ada), "host": host, "x-forwarded-host": host, "forwarded": f"host={host}"}
    for answer in (
        await anyone.get("/", headers=headers),
        await anyone.post(f"/enter/{grant}", data={"csrf": ada.csrf}, headers=headers),
        await anyone.get("/device", headers={**headers, "cookie": ""}),
    ):
        assert "evil" not in answer.text
        assert "evil" not in answer.headers.get("location", "")


async def test_the_session_cookie_is_for_this_host_and_for_no_script(parts: Parts) -> None:
    answer = RedirectResponse("/")
    set_session(answer, parts, "secret")
    plain = answer.headers["set-cookie"].lower()
    assert "httponly" in plain
    assert "samesite=lax" in plain
    assert "domain" not in plain
    answer = RedirectResponse("/")
    set_session(answer, replace(parts, public_url="https://broker.test"), "secret")
    safe = answer.headers["set-cookie"]
    assert safe.startswith("__Host-portcullis=")
    assert "Secure" in safe


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fbroker%2fseal.key", "S-1%00", "....//seal", "seal.key", "%2e%2e"]
)
async def test_a_sessions_name_is_no_path(call: Any, name: str) -> None:
    sam = await call("sam")
    for address in (f"/api/v1/sessions/{name}", f"/api/v1/sessions/{name}/recording", f"/static/{name}"):
        answer = await sam.get(address)
        assert answer.status_code in (404, 422)
        assert "root:" not in answer.text


async def test_an_address_with_nothing_at_it_is_a_page_for_browsers_and_a_problem_for_programs(
    anyone: httpx2.AsyncClient,
) -> None:
    page = await anyone.get("/nothing/<b>", headers={"Accept": "text/html,*/*"})
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "<b>" not in page.text
    assert "default-src" in page.headers["content-security-policy"]
    problem = await anyone.get("/nothing")
    assert problem.json()["code"] == "no-such-page"
