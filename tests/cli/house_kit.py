"""Helpers for tests with a whole house: its settings over a real PostgreSQL, and people in browsers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2

from cli.settings import ServeSettings

POLICY = """
people:
  ada: {{name: Ada Lovelace, email: ada@example.com, groups: [engineers]}}
  bob: {{name: Bob, email: bob@example.com, groups: [engineers]}}
  grace: {{name: Grace Hopper, email: grace@example.com, groups: [dba]}}
  sam: {{name: Sam, email: sam@example.com, groups: [security]}}
groups:
  engineers: {{title: Engineers}}
  dba: {{title: Approvers}}
  security: {{title: Security}}
admins: [security]
resources:
  prod-db:
    kind: postgres
    title: Shop
    aliases: [shop]
    address: {host}:{port}
    database: {database}
    tls: {tls}
    {ca}
    admin: {{user: {admin}, password: "file:admin.secret"}}
    masks: [{{column: public.users.email, method: email}}]
    roles:
      readonly: {{memberships: [app_readonly], title: Read only}}
rules:
  - name: engineers-read-prod
    who: [engineers]
    resources: [prod-db]
    roles: [readonly]
    longest: 4h
    usual: 1h
    approval: [{{group: dba, needed: 1}}]
    lapses_after: 8h
    reason: required
"""


def write_policy(directory: Path, shop: Any) -> Path:
    """An access.yaml for the sample shop, with its administrator's password beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "admin.secret").write_text(shop.admin_password)
    ca = shop.server.ca
    text = POLICY.format(
        host=shop.server.host,
        port=shop.server.port,
        database=shop.name,
        tls="verify-full" if ca else "disable",
        ca=f"ca: {ca}" if ca else "",
        admin=shop.admin,
    )
    path = directory / "access.yaml"
    path.write_text(text)
    return path


def settings_for(directory: Path, shop: Any, **other: Any) -> ServeSettings:
    """Settings on free ports, with everything under `directory`."""
    return ServeSettings(
        policy=write_policy(directory, shop),
        data_dir=directory / "data",
        http_port=0,
        gate_port=0,
        gate_name="gate",
        **other,
    )


class Browser:
    """Somebody's browser: cookies, redirects by hand, forms found in the page."""

    def __init__(self) -> None:
        self.http = httpx2.AsyncClient(timeout=20)
        self.address = ""

    async def go(self, address: str) -> httpx2.Response:
        """Follow redirects to their end, but not to a listener of a command line."""
        while True:
            self.address = address
            answer = await self.http.get(address)
            if answer.status_code not in {302, 303, 307}:
                return answer
            address = urljoin(address, answer.headers["location"])

    async def press(self, **fields: str) -> httpx2.Response:
        """Post to the page that is shown, and follow."""
        answer = await self.http.post(self.address, data=fields)
        if answer.status_code in {302, 303}:
            return await self.go(urljoin(self.address, answer.headers["location"]))
        return answer

    async def log_in(self, base: str, person: str, page: str = "/") -> httpx2.Response:
        await self.go(f"{base}/login?next={page}")
        return await self.press(sub=person)


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found, page
    return found[1]
