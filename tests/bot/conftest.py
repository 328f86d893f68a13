"""Worlds to test the bot in: see tests/bot/world.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.config import Config
from tests.bot.world import World, make_world, sample_config


@pytest.fixture(params=["http", "socket"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """The world over HTTP and again over Socket Mode."""
    async with make_world(tmp_path, mode=request.param) as made:
        yield made


@pytest.fixture
async def http_world(tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(tmp_path) as made:
        yield made


@pytest.fixture
def configured() -> Callable[..., Config]:
    """`configured(needed=2)`: the sample policy with something changed."""
    return sample_config


@pytest.fixture
def worlds(tmp_path: Path) -> Callable[..., Any]:
    """`async with worlds(config=…, mode=…) as world:` for a world of one's own."""

    def make(**options: Any) -> Any:
        return make_world(tmp_path, **options)

    return make
