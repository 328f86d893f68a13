"""A house in this process, and commands that people run at it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from broker.identity.tokens import TokenKind
from cli.house import House

ROOT = Path(__file__).parents[2]


@dataclass
class Running:
    house: House
    folder: Path

    async def run(self, *command: str, person: str = "ada") -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, "PORTCULLIS_HOME": str(self.folder / person), "NO_COLOR": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(90):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def access(self, *words: str, person: str = "ada") -> tuple[int, str, str]:
        return await self.run(sys.executable, "-m", "cli.main", *words, person=person)


async def logged_in(house: House, folder: Path, person: str) -> None:
    """Have somebody logged in at the house."""
    assert house.broker is not None
    issued = await house.broker.tokens.issue(TokenKind.LOGIN, person, via="cli")
    place = folder / person
    place.mkdir(mode=0o700)
    body = {"broker": house.public_url, "principal": person, "token": issued.token}
    (place / "login.json").write_text(json.dumps(body))
    (place / "login.json").chmod(0o600)
