"""A keeper that kills itself (SIGKILL) at a chosen step, for test_08. Not a part of the product.

Reads jobs from stdin, one JSON object a line, and answers each with one line. A job forks a child, which
starts a whole keeper and plays one story through it; every delivery has its own key, so that the story can be
played again from its beginning after a death. Steps are: right before each commit, with everything written
but nothing durable yet, and before each command sent to the target.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

# A life imports these as it needs them, which would be a third of it; so they are here before it begins.
import aiosqlite  # noqa: F401
import anyio._backends._asyncio  # noqa: F401
import asyncpg
import httpcore2  # noqa: F401
import truststore  # noqa: F401
from sqlalchemy import select

import broker.credentials.worker
import broker.door
import broker.store.migrate
from broker import logs, outbox
from broker.identity.tokens import TokenKind
from broker.keeper import Broker, create_broker
from broker.settings import Settings
from broker.store import credentials
from broker.store.engine import Store
from broker.store.tables import outbox as box
from workflows.access import Wish
from workflows.gate import Admission, Closing, Knock
from workflows.model import GrantState, Refusal, Story


class Killer:
    """Dies at step `at`; 0 never."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Put the steps around the store and the target, from outside."""
        write, execute = Store.write, asyncpg.Connection.execute
        step = self.step

        @asynccontextmanager
        async def watched(store: Store) -> AsyncIterator[Any]:
            async with write(store) as tx:
                yield tx
                step()

        async def watched_execute(self: Any, *args: Any, **more: Any) -> Any:
            step()
            return await execute(self, *args, **more)

        Store.write = watched  # type: ignore[method-assign, assignment]
        asyncpg.Connection.execute = watched_execute


async def play(keeper: Broker, say: Callable[..., None]) -> None:
    service = keeper.service
    wish = Wish("prod-db", "readonly", timedelta(hours=1), "INC-142")
    story = good(await service.submit("ada", wish, via="slack", dedupe="delivery-1"))
    say("submitted", story.request.id)
    story = good(await service.approve(story.request.id, "grace", via="slack", dedupe="delivery-2"))
    assert story.grant is not None
    say("approved", story.grant.id)
    if story.grant.state is not GrantState.ENDED:
        await enter(keeper, story.grant.id, say)
    story = good(await service.release(story.grant.id, "ada", via="slack", dedupe="delivery-3"))
    say("released", story.request.id)
    await until(lambda: nothing_left(keeper))
    say("dropped", story.request.id)


async def enter(keeper: Broker, grant: str, say: Callable[..., None]) -> None:
    async def ready() -> bool:
        async with keeper.store.read() as tx:
            return await credentials.ready(tx, grant) is not None

    await until(ready)
    await keeper.authority.hold("g1", grant)
    say("held", grant)
    token = (await keeper.tokens.issue(TokenKind.ENTRY, "ada", via="cli")).token
    knock = Knock("g1", "postgres", "ada", token, "prod-db", "", "c")
    admission = await keeper.authority.admit(knock)
    assert isinstance(admission, Admission), admission
    say("admitted", admission.session)
    await keeper.authority.close("g1", Closing(admission.session, "client", "", 1, "ab" * 32, 1, 0, 1))
    say("closed", admission.session)


async def nothing_left(keeper: Broker) -> bool:
    open_work = (box.c.done_at.is_(None)) & (box.c.kind.in_([outbox.MINT, outbox.DROP]))
    async with keeper.store.read() as tx:
        return (await tx.execute(select(box.c.id).where(open_work))).first() is None


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def good(answer: Story | Refusal) -> Story:
    assert isinstance(answer, Story), answer
    return answer


async def keep(job: dict[str, Any], said: int) -> None:
    killer = Killer(job["kill"])
    killer.watch()
    broker.door.GATE_FIRST = timedelta()
    broker.credentials.worker.LEASE = timedelta(seconds=0.5)  # the dead are succeeded sooner: tests are short
    folder = Path(job["folder"])
    settings = Settings(
        policy=folder / "access.yaml", data_dir=folder / "data", database_url=job["database"], sweep_seconds=5
    )

    def say(*words: str) -> None:
        os.write(said, (json.dumps(words) + "\n").encode())

    async with await create_broker(settings) as keeper:
        await play(keeper, say)
    say("stopped", str(killer.count))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One life of a keeper: what it said before it ended, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            logs.configure("ERROR")
            asyncio.run(keep(job, writer))
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    return {"said": said, "killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
