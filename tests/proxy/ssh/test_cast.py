"""A terminal's recording as an asciicast."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from proxy.ssh.cast import casts

if TYPE_CHECKING:
    from tests.proxy.ssh.conftest import SshHouse


async def test_each_terminal_gives_an_asciicast_and_nothing_else_does(web: SshHouse) -> None:
    async with await web.connect() as client:
        await client.run("echo no terminal")
        process = await client.create_process("echo one; read x", term_type="xterm", term_size=(90, 30))
        await process.stdout.readuntil("one")
        process.change_terminal_size(100, 40)
        process.stdin.write("\n")
        await process.wait()
    (cast,) = casts(await web.recording())
    header, *events = [json.loads(line) for line in cast.splitlines()]
    assert (header["version"], header["term"]) == (3, {"cols": 90, "rows": 30})
    assert "ada on web-1 as deploy" in header["title"]
    assert {event[1] for event in events} == {"o", "r", "x"}
    assert events[-1][1:] == ["x", "0"]
    assert "".join(text for _, kind, text in events if kind == "o").startswith("one\r\n")
    assert [text for _, kind, text in events if kind == "r"] == ["90x30", "100x40"]
    assert all(0 <= interval < 10 for interval, _, _ in events)  # each since the one before
