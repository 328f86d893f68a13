"""The sandbox is an independent Slack: it knows nothing of the app, and it runs beside whoever starts it."""

from __future__ import annotations

import ast
import signal
from pathlib import Path

import pytest

import bot.sandbox
from bot.sandbox import create_sandbox


def test_it_imports_nothing_of_ours():
    ours = {"bot", "broker", "cli", "proxy", "workflows"}
    for source in Path(bot.sandbox.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, source
                assert node.level == 1 or (node.module or "").split(".")[0] not in ours, source
            elif isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & ours, source


async def test_it_leaves_the_signals_to_the_process(clock, workspace_with):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with create_sandbox(workspace_with(), clock):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_a_taken_port_is_said_to_be_taken(clock, workspace_with):
    async with create_sandbox(workspace_with(), clock) as first:
        port = int(first.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="choose another port"):
            await create_sandbox(workspace_with(), clock).start(port=port)


async def test_it_starts_again_on_the_same_port(clock, workspace_with):
    sandbox = create_sandbox(workspace_with(), clock)
    await sandbox.start()
    port = int(sandbox.base_url.rsplit(":", 1)[1])
    await sandbox.as_user("ada").types("#general", "before")
    await sandbox.stop()
    await sandbox.start(port=port)
    assert [m.text for m in sandbox.as_user("ada").messages("#general")] == ["before"]
    await sandbox.stop()
