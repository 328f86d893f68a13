"""Promise 8: a request, approval, grant, revocation and audit event survive kill -9 at any instruction. N
clicks, replays and duplicate deliveries make one transition and one grant.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from broker.audit import of_subject
from broker.codec import EVENT_KINDS, fold
from broker.store import stories
from broker.store.engine import Store
from broker.store.tables import outbox
from broker.trail import load_public_keys, read_witness, verify_store
from workflows.model import EndReason

ROOT = Path(__file__).parents[2]
POLICY = """\
people:
  ada: {{name: Ada, groups: [engineers]}}
  grace: {{name: Grace, groups: [dba]}}
groups: {{engineers: {{}}, dba: {{}}}}
resources:
  prod-db:
    kind: postgres
    address: "{host}:{port}"
    database: {database}
    ca: {ca}
    admin: {{user: portcullis_admin, password: "file:keeper.secret"}}
    roles: {{readonly: {{memberships: [app_readonly]}}}}
rules:
  - {{name: read, who: [engineers], resources: [prod-db], roles: [readonly], longest: 4h,
     approval: [{{group: dba}}]}}
"""
SHARES = 4
Live = Callable[..., dict[str, Any]]


@pytest.fixture
def live() -> Iterator[Live]:
    """One life of a keeper in a process of its own: `live(folder, kill=at_step)`."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killable_keeper.py"))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout

    def run(folder: Path, *, kill: int = 0, database: str = "") -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"folder": str(folder), "kill": kill, "database": database}) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    yield run
    process.stdin.close()
    process.wait(30)


@pytest.fixture
def home(shop: Any, tmp_path: Path) -> Path:
    """A folder with a policy for the target and a database that is made already; copied for each life."""
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    server = shop.server
    text = POLICY.format(host=server.host, port=server.port, database=shop.name, ca=server.ca)
    (folder / "access.yaml").write_text(text)
    (folder / "keeper.secret").write_text(shop.admin_password)

    async def make() -> None:
        store = Store(f"sqlite:///{folder / 'data' / 'portcullis.db'}")
        await store.migrate()
        await store.close()

    asyncio.run(make())
    return folder


async def check(url: str, folder: Path, acknowledged: list[list[str]], shop: Any) -> None:
    """One history, complete and proven, and nothing left behind at the target."""
    store = Store(url)
    try:
        async with store.read() as tx:
            (story,) = await stories.newest(tx)
            entries = await of_subject(tx, story.request.id)
            undone = await tx.execute(select(outbox.c.kind).where(outbox.c.done_at.is_(None)))
            assert set(undone.scalars()) == {"card"}  # no bot is here to post them; they wait for one
        verdict = await verify_store(
            store,
            load_public_keys([folder / "data" / "audit.pub"]),
            witness=read_witness(folder / "data" / "audit-checkpoints.jsonl"),
        )
    finally:
        await store.close()
    assert verdict.good, verdict
    assert story.grant is not None
    assert story.grant.end_reason is EndReason.RELEASED
    told = [(entry.kind, entry.body) for entry in entries]
    assert fold(told) == story
    kinds = Counter(kind for kind, _ in told)
    once = ["request.submitted", "approval.given", "request.approved", "grant.held", "grant.ended"]
    once += ["credential.made", "credential.dropped"]
    assert {kind: kinds[kind] for kind in once} == dict.fromkeys(once, 1)
    assert sum(kinds[kind] for kind in EVENT_KINDS) == story.version
    names = {"submitted": story.request.id, "approved": story.grant.id, "held": story.grant.id}
    assert all(names.get(word, value) == value for word, value, *_ in acknowledged)
    login = "pc_ada_" + story.grant.id.replace("-", "").lower()
    assert shop.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{login}'") == "0"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_keeper_killed_at_any_step_loses_nothing_and_does_nothing_twice(
    live: Live, home: Path, shop: Any, tmp_path: Path, share: int
) -> None:
    """Before every commit and before every command to the target; each share takes every fourth step."""
    step, ended = 1 + share, False
    while not ended:
        folder = tmp_path / f"life-{step}"
        shutil.copytree(home, folder)
        first = live(folder, kill=step)
        ended = not first["killed"]
        assert first["killed"] or first["code"] == 0, first
        second = live(folder)
        assert second["code"] == 0, (step, second)
        url = f"sqlite:///{folder / 'data' / 'portcullis.db'}"
        asyncio.run(check(url, folder, first["said"] + second["said"], shop))
        shutil.rmtree(folder)
        step += SHARES
    assert step > 20, "the keeper has more steps than these"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [5, 9, 13, 17, 22])
def test_so_does_a_keeper_on_postgresql(
    live: Live, home: Path, shop: Any, empty_database: Any, step: int
) -> None:
    url = empty_database.url("postgresql")
    first = live(home, kill=step, database=url)
    assert first["killed"], first
    second = live(home, database=url)
    assert second["code"] == 0, second
    asyncio.run(check(url, home, first["said"] + second["said"], shop))


def test_a_keeper_killed_again_and_again_gets_to_the_end(live: Live, home: Path, shop: Any) -> None:
    said: list[list[str]] = []
    for life in range(6):
        said += live(home, kill=6 + 3 * (life % 5))["said"]
    last = live(home)
    assert last["code"] == 0, last
    url = f"sqlite:///{home / 'data' / 'portcullis.db'}"
    asyncio.run(check(url, home, said + last["said"], shop))
